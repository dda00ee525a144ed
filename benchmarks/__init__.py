"""What vouch does per second, per megabyte and per image.

Each benchmark prints a table and writes one JSON; report.py says in which form.
"""

import os

# Tables are to be read; what the model libraries have to say on import is not part of them.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
