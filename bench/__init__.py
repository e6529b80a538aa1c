"""Measurements: load on the real stack, counted at a receiver of its own. `make bench`."""

import os

# Without compiled modules every process that is measured starts twice as slowly.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
