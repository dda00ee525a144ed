"""Trainers that others wrote, each a program that its own environment's Python runs."""
