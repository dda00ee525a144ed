"""Figures of the source itself: its size, its names, its installation, and what its tests find."""
