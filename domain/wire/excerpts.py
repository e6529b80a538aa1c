"""Excerpts of foreign texts: short, safe to store and to show, and without secrets that a receiver echoes."""

import html
import json
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from domain.wire.signing import SECRET_PREFIX

MASK = "•••"
# A shorter "secret" ("1", "on") occurs in every text by chance; masking it would only reveal its position.
_SHORTEST_BLOTTED = 3
_LONGEST_UTF8 = 4


def text_excerpt(raw: bytes, limit_bytes: int, secrets: tuple[str, ...] = ()) -> str:
    """Return the beginning of `raw` as text of at most `limit_bytes` UTF-8 bytes, one line, without control characters.

    Bytes that are not UTF-8 become U+FFFD. Before the cut, each of `secrets` and each of its words, also as escaped in
    JSON, HTML or a URL, is replaced by `•••`, and so is the beginning of one at the end: half a secret is secret too.
    """
    if not raw:
        return ""
    forms = blotted_forms(secrets) if secrets else ()
    longest = len(forms[0]) * _LONGEST_UTF8 if forms else 0
    text = raw[: limit_bytes + longest].decode("utf-8", "replace")
    for form in forms:
        text = text.replace(form, MASK)
    if forms:
        text = _without_partial_secret(text, forms)
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    if len(text) * _LONGEST_UTF8 > limit_bytes:
        text = text.encode()[:limit_bytes].decode("utf-8", "ignore")
    return text


def _without_partial_secret(text: str, forms: tuple[str, ...]) -> str:
    # Reading may stop in the middle of an echo (here, at the limit of a response, at a reset). Masking shortens the
    # text before it, so that the partial secret may end up inside the excerpt.
    cut = len(text)
    for form in forms:
        start = text.find(form[:_SHORTEST_BLOTTED], max(0, len(text) - len(form)), cut + _SHORTEST_BLOTTED - 1)
        while start != -1 and not form.startswith(text[start:]):
            start = text.find(form[:_SHORTEST_BLOTTED], start + 1, cut + _SHORTEST_BLOTTED - 1)
        if start != -1:
            cut = min(cut, start)
    return text[:cut] + MASK if cut < len(text) else text


@lru_cache(maxsize=1024)  # the secrets of a subscription are the same for each of its deliveries
def blotted_forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Return every spelling in which a receiver may echo one of `secrets`, the longest first."""
    forms = {form for secret in secrets for part in _parts(secret) for form in _spellings(part)}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST_BLOTTED), key=len, reverse=True))


def _parts(secret: str) -> Iterable[str]:
    # A receiver echoes "Bearer abc" as a whole or the token alone, and a signing key also without its prefix.
    yield secret
    if secret.startswith(SECRET_PREFIX):
        yield secret[len(SECRET_PREFIX) :]
    yield from secret.split()[1:]


def _spellings(text: str) -> Iterable[str]:
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1].replace("/", "\\/")
    yield html.escape(text)
    yield quote(text, safe="", errors="replace")
    yield quote(text, errors="replace")


def printable(text: str) -> str:
    """Escape control characters and changes of text direction, as in YAML: foreign text cannot control the terminal."""
    return "".join(letter if letter.isprintable() else _escaped(ord(letter)) for letter in text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
