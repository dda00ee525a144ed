"""Image sets and ratings as people keep them, and what is done to a whole set: filtering and rescoring."""
