"""TVM's Relax."""
