"""The engine on torch: the analog engine's arrays, multiplied on any device of torch."""
