"""File formats of others, read safely: encoded images, deep grey values, texts, CSV tables."""
