"""What is kept of a foreign text is short, safe to show, and holds none of the secrets a receiver may echo."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.wire.excerpts import MASK, text_excerpt
from domain.wire.signing import format_secret

SECRET = 'tok/en "ü" <&>+42'

SPELLINGS = {
    "as it is": SECRET,
    "as JSON": json.dumps({"header": SECRET}),
    "as JSON in UTF-8": json.dumps({"header": SECRET}, ensure_ascii=False),
    "as JSON with escaped slashes": json.dumps(SECRET).replace("/", "\\/"),
    "as HTML": f"<pre>{html.escape(SECRET)}</pre>",
    "in a URL": "?token=" + quote(SECRET, safe=""),
    "in a path": "/x/" + quote(SECRET),
}


@pytest.mark.parametrize("echo", SPELLINGS.values(), ids=SPELLINGS)
def test_a_secret_is_blotted_out_however_it_is_spelt(echo: str) -> None:
    kept = text_excerpt(echo.encode(), 1024, (SECRET,))
    assert MASK in kept
    for piece in ("tok", "en", "42"):
        assert piece not in kept.replace("token=", "")


def test_the_credentials_of_an_authorization_header_are_blotted_out_without_their_scheme_too() -> None:
    token = base64.b64encode(b"user:password").decode()
    assert text_excerpt(f"bad credentials {token}".encode(), 1024, (f"Basic {token}",)) == f"bad credentials {MASK}"


def test_a_signing_key_is_blotted_out_without_its_mark_too() -> None:
    key = format_secret(bytes(range(32)))
    assert text_excerpt(f"wrong key {key[6:]} or {key}".encode(), 1024, (key,)) == f"wrong key {MASK} or {MASK}"


def test_a_longer_secret_is_blotted_out_before_a_shorter_one_within_it() -> None:
    assert text_excerpt(b"x abcdefgh x abc x", 1024, ("abc", "abcdefgh")) == f"x {MASK} x {MASK} x"


def test_one_and_two_letters_are_no_secret_for_they_stand_in_every_text() -> None:
    assert text_excerpt(b"a banana", 1024, ("a", "an")) == "a banana"


@pytest.mark.parametrize("offset", range(48, 66))
def test_no_half_of_a_secret_is_left_at_the_cut(offset: int) -> None:
    kept = text_excerpt(b"x" * offset + b"0123456789ABCDEF" * 2, 64, ("0123456789ABCDEF",))
    assert kept.rstrip("•") == "x" * min(offset, 64)


@pytest.mark.parametrize("before", range(16))
def test_no_half_of_a_secret_is_left_where_many_were_blotted_out_before_it(before: int) -> None:
    secret = "0123456789ABCDEF"
    kept = text_excerpt(b"x" * before + secret.encode() * 100, 64, (secret,))
    assert kept.rstrip("•") == "x" * before


@pytest.mark.parametrize("arrived", range(3, 16))
def test_no_half_of_a_secret_is_left_where_the_answer_broke_off_in_it(arrived: int) -> None:
    secret = "0123456789ABCDEF"
    assert text_excerpt(f"header: {secret[:arrived]}".encode(), 1024, (secret,)) == f"header: {MASK}"


@given(before=st.text(max_size=80), after=st.text(max_size=80), secret=st.text(min_size=3, max_size=40))
def test_no_secret_is_left_anywhere(before: str, after: str, secret: str) -> None:
    assume(not set(secret) & set(MASK + " "))
    assert secret not in text_excerpt((before + secret + after).encode(), 300, (secret,))


@given(raw=st.binary(max_size=400), limit=st.integers(0, 120), secrets=st.lists(st.text(max_size=12), max_size=3))
def test_whatever_arrives_is_short_printable_text(raw: bytes, limit: int, secrets: list[str]) -> None:
    kept = text_excerpt(raw, limit, tuple(secrets))
    assert len(kept.encode()) <= limit
    assert kept.isprintable()
    assert "\x00" not in kept


@given(st.text(st.characters(codec="utf-8"), max_size=60).filter(str.isprintable))
def test_short_printable_text_is_kept_as_it_is(text: str) -> None:
    assert text_excerpt(text.encode(), 1024) == text
