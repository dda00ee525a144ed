"""Adapting a miniature foundation model to images that it has never seen: data, captions and prompts."""
