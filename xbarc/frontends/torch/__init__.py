"""PyTorch modules, through torch's own exporter."""
