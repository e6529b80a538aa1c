"""Commit of the running code."""

from pathlib import Path

COMMIT_FILE = Path(__file__).with_name("commit")
"""File with the commit, written by the Dockerfile. A checkout has none: git knows its commit."""


def commit() -> str | None:
    """Return the commit that an image was built from, or None."""
    return COMMIT_FILE.read_text().strip() or None if COMMIT_FILE.is_file() else None
