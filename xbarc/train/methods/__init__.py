"""Methods of retraining, one a file."""
