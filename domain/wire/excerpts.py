"""What is kept of a foreign text: safe to store and to show, short, and without the secrets a receiver echoes."""

import html
import json
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from domain.wire.signing import SECRET_PREFIX

MASK = "•••"
# A shorter "secret" ("1", "on") stands in every text by chance; blotting it would only show where it is.
_SHORTEST_BLOTTED = 3
_LONGEST_UTF8 = 4


def text_excerpt(raw: bytes, limit_bytes: int, secrets: tuple[str, ...] = ()) -> str:
    """Return the beginning of `raw` as text of at most `limit_bytes` UTF-8 bytes, one line, without control characters.

    Bytes that are no UTF-8 become U+FFFD. Each of `secrets`, also as JSON, HTML or URL would escape it and each word of
    it, is replaced by `•••`, before the cut, and so is the beginning of one at the end: half a secret is one too.
    """
    if not raw:
        return ""
    forms = blotted_forms(secrets) if secrets else ()
    longest = len(forms[0]) * _LONGEST_UTF8 if forms else 0
    text = raw[: limit_bytes + longest].decode("utf-8", "replace")
    for form in forms:
        text = text.replace(form, MASK)
    if forms:
        text = _without_a_beginning_at_the_end(text, forms)
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    if len(text) * _LONGEST_UTF8 > limit_bytes:
        text = text.encode()[:limit_bytes].decode("utf-8", "ignore")
    return text


def _without_a_beginning_at_the_end(text: str, forms: tuple[str, ...]) -> str:
    # Reading stops in the middle of an echo (here, at the limit of a response, at a reset), and blotting what stands
    # before shortens the text, so that its end may be within what is kept.
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
    """Return every spelling in which one of `secrets` may be echoed, the longest first."""
    forms = {form for secret in secrets for part in _parts(secret) for form in _spellings(part)}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST_BLOTTED), key=len, reverse=True))


def _parts(secret: str) -> Iterable[str]:
    # "Bearer abc" is echoed as a whole or as the token alone, a signing key also without its mark.
    yield secret
    if secret.startswith(SECRET_PREFIX):
        yield secret[len(SECRET_PREFIX) :]
    words = secret.split()
    if len(words) > 1:
        yield from words[1:]


def _spellings(text: str) -> Iterable[str]:
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1].replace("/", "\\/")
    yield html.escape(text)
    yield quote(text, safe="", errors="replace")
    yield quote(text, errors="replace")
