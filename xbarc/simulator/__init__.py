"""The functional simulator: what a mapped network computes on crossbars."""
