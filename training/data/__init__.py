"""Labelled image sets as tensors."""
