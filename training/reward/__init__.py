"""The reward ensemble: what it learns from, how far its scores can be taken at their word."""
