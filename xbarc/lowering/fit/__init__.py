"""Fitting weights and biases to calibration data: what quantising costs, and less of it."""
