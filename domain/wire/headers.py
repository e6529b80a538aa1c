"""Rules for the headers that a subscription adds to its deliveries. Sources: wire contract, section 2, and RFC 9110."""

import re
from dataclasses import dataclass

HEADERS_MOST = 20
NAME_MOST_CHARACTERS = 128
VALUE_MOST_CHARACTERS = 4096  # receivers commonly take 8 KiB of headers in all

HOP_BY_HOP = (
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
)
ANSWER_CHANGING = ("accept-encoding", "expect")
"""Refused in addition to the contract: responses are not decompressed, and a request that expects a `100` could
occupy the concurrency limiter for the whole timeout."""

REFUSED_NAMES = frozenset({"host", "content-length", "content-type", *HOP_BY_HOP, *ANSWER_CHANGING})
REFUSED_PREFIXES = ("webhook-", "x-webhook-")

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[ -~]*")
"""Visible ASCII and spaces: no CR, LF, NUL or other control character, and no character of uncertain encoding."""


@dataclass(frozen=True, slots=True)
class OwnHeader:
    """A header of a subscription; its value is a secret."""

    name: str
    value: str


def name_problem(name: str) -> str | None:
    """Return the reason for which a header cannot have this name, or None."""
    if len(name) > NAME_MOST_CHARACTERS:
        return f"has more than {NAME_MOST_CHARACTERS} characters"
    if TOKEN.fullmatch(name) is None:
        return "is no header name: letters, digits and !#$%&'*+-.^_`|~ only"
    lowered = name.lower()
    if lowered in REFUSED_NAMES or lowered.startswith(REFUSED_PREFIXES):
        return "is set by the sender and cannot be replaced"
    return None


def value_problem(value: str) -> str | None:
    """Return the reason for which a header cannot have this value, or None."""
    if len(value) > VALUE_MOST_CHARACTERS:
        return f"has more than {VALUE_MOST_CHARACTERS} characters"
    if VALUE.fullmatch(value) is None:
        return "holds a character that no header value may hold here: visible ASCII and spaces only"
    return None
