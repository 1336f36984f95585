"""What can be known of a graph: which channels belong together, which rows wait for which."""
