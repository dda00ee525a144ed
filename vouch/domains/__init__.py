"""Medical domains: what an expert is asked about an image, a JSON file per domain."""
