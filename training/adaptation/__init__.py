"""Adapting a foundation model to a medical domain: its data, and the check of them that comes first."""
