"""The exact engine: ideal devices, integers."""
