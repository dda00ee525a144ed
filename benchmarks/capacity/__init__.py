"""How many replicas a load and a latency goal need."""
