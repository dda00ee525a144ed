"""What vouch does per second, per megabyte and per image.

Each benchmark prints a table and writes one JSON; report.py says in which form.
"""
