"""Makes the pages that are generated: reference from the code, results from the benchmark reports."""
