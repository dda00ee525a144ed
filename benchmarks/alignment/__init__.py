"""Which method of alignment gains the most, from the same simulated ratings and in the same time."""
