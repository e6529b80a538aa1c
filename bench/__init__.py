"""Measurements: load on the real stack, counted at a receiver of its own. `make bench`."""
