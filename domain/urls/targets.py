"""Display form of a URL outside the database."""

from urllib.parse import urlsplit

TARGET_CHARACTERS = 200
"""Maximum length of a displayed URL. A path may have 2,000 characters."""


def shown_target(url: str) -> str:
    """Return host and path of a URL. Its query may contain a token and stays out of Temporal, logs and metrics."""
    parts = urlsplit(url)
    target = parts.netloc + parts.path
    return target if len(target) <= TARGET_CHARACTERS else target[: TARGET_CHARACTERS - 1] + "…"
