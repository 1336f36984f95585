"""TVM's Relay, as text."""
