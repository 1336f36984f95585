"""The analog engine: one object a physical array, with the effects of its devices."""
