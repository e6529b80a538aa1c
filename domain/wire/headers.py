"""The headers a subscription may add to its deliveries. Sources: the wire contract, section 2, and RFC 9110."""

import re
from dataclasses import dataclass

HEADERS_MOST = 20
NAME_MOST_CHARACTERS = 128
VALUE_MOST_CHARACTERS = 4096  # receivers commonly take 8 KiB of headers in all

HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
ANSWER_CHANGING = ("accept-encoding", "expect")
"""Ours beside the contract's: nothing is decompressed; who expects a `100` holds a place for the whole time-out."""

REFUSED_NAMES = frozenset({"host", "content-length", "content-type", *HOP_BY_HOP, *ANSWER_CHANGING})
REFUSED_PREFIXES = ("webhook-", "x-webhook-")

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[ -~]*")
"""Visible ASCII and spaces: no CR, LF, NUL or other control character, and nothing whose encoding is a guess."""


@dataclass(frozen=True, slots=True)
class OwnHeader:
    """One header; its value is a secret."""

    name: str
    value: str


def name_problem(name: str) -> str | None:
    """Why a header cannot have this name; None when it can."""
    if len(name) > NAME_MOST_CHARACTERS:
        return f"has more than {NAME_MOST_CHARACTERS} characters"
    if TOKEN.fullmatch(name) is None:
        return "is no header name: letters, digits and !#$%&'*+-.^_`|~ only"
    lowered = name.lower()
    if lowered in REFUSED_NAMES or lowered.startswith(REFUSED_PREFIXES):
        return "is set by the sender and cannot be replaced"
    return None


def value_problem(value: str) -> str | None:
    """Why a header cannot have this value; None when it can."""
    if len(value) > VALUE_MOST_CHARACTERS:
        return f"has more than {VALUE_MOST_CHARACTERS} characters"
    if VALUE.fullmatch(value) is None:
        return "holds a character that no header value may hold here: visible ASCII and spaces only"
    return None
