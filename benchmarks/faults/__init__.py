"""Faults: power cuts, kills, full disks, two controllers, damaged files, and a search for schedules that lose data."""
