"""Display form of a URL outside the database."""

import re

TARGET_CHARACTERS = 200
"""Maximum length of a displayed URL. A path may have 2,000 characters."""


def shown_target(url: str) -> str:
    """Return host and path of a URL, also of one that no parser accepts.

    Its query may contain a token and stays out of Temporal, logs and metrics.
    """
    target = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0]
    return target if len(target) <= TARGET_CHARACTERS else target[: TARGET_CHARACTERS - 1] + "…"


def webhook_title(name: str | None, url: str) -> str:
    """Return what people call a webhook: its name, or host and path of its URL."""
    return name or shown_target(url)


def webhook_label(name: str | None, event_name: str, url: str) -> str:
    """Return the title with the event, which tells apart the webhooks that were made together under one name."""
    title = webhook_title(name, url)
    return title if event_name in title else f"{title} · {event_name}"
