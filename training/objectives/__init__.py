"""Losses: pure functions of tensors, one file each, every one naming the paper and the equation it is from."""
