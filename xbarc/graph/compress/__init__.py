"""Smaller networks: weight matrices, fits in closed form, taking channels out."""
