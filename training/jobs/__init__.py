"""Training jobs: what a run is to do, the worker that does it, and Ray Train."""
