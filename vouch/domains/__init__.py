"""Medical domains: what an expert is asked about an image and how it is captioned, a folder per domain."""
