"""A generator learns what the experts find plausible: one loop, one student, one sampler for every method."""
