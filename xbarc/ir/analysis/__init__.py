"""What can be known of the tile IR: which weight stands where, what flows, what is visited."""
