"""Scaling the channels of a value, exactly: where, and by how much."""
