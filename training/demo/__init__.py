"""The demo: the whole loop once, on a fresh system."""
