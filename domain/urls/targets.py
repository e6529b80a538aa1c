"""How a URL is shown outside the database."""

from urllib.parse import urlsplit

TARGET_CHARACTERS = 200
"""Of a URL, for people: a path may have 2,000."""


def shown_target(url: str) -> str:
    """Host and path of a URL; its query may hold a token and stays out of Temporal, logs and metrics."""
    parts = urlsplit(url)
    target = parts.netloc + parts.path
    return target if len(target) <= TARGET_CHARACTERS else target[: TARGET_CHARACTERS - 1] + "…"
