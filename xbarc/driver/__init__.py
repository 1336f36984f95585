"""The whole way from a model to a program, and what is done with programs."""
