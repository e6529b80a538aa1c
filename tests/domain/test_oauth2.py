"""Token requests and responses of OAuth 2, as RFC 6749 writes them."""

import json
from typing import Any

import pytest

from domain.urls.rules import UrlRules, normalise_url
from domain.wire.oauth2 import (
    AccessToken,
    NoAccessTokenError,
    OAuth2Client,
    client_basic,
    read_token,
    token_request,
)

URL = "https://login.example.com/token?tenant=1"
GRANTED = {"access_token": "2YotnFZFEjr1zCsicMWpAA", "token_type": "example", "expires_in": 3600}


def answer(**fields: Any) -> bytes:
    return json.dumps(GRANTED | {"token_type": "bearer"} | fields).encode()


def test_the_client_authenticates_by_its_form_encoded_id_and_secret() -> None:
    example = OAuth2Client(URL, "s6BhdRkqt3", "gX1fBat3bV")
    assert client_basic(example) == "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"  # RFC 6749, section 4.4.2
    odd = OAuth2Client(URL, "a:b c", "%&")
    assert client_basic(odd) == "Basic YSUzQWIrYzolMjUlMjY="  # a%3Ab+c:%25%26


def test_the_request_asks_for_the_grant_and_the_scope() -> None:
    client = OAuth2Client(URL, "s6BhdRkqt3", "gX1fBat3bV", "deliveries read:all")
    head, _, body = token_request(client, normalise_url(URL, UrlRules()), "OpenLoyalty").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /token?tenant=1 HTTP/1.1\r\nHost: login.example.com\r\n")
    assert b"\r\nContent-Type: application/x-www-form-urlencoded\r\n" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert body == b"grant_type=client_credentials&scope=deliveries+read%3Aall"


@pytest.mark.parametrize(
    ("fields", "life"),
    [({}, 3600), ({"token_type": "Bearer"}, 3600), ({"expires_in": "60"}, 60), ({"expires_in": None}, 300)],
)
def test_a_token_is_used_for_80_percent_of_its_life(fields: dict[str, Any], life: float) -> None:
    assert read_token(200, answer(**fields)) == AccessToken(GRANTED["access_token"], life * 0.8)


@pytest.mark.parametrize(
    ("status_code", "body", "message"),
    [
        (400, b'{"error":"invalid_scope"}', "answered 400, invalid_scope"),
        (401, b'{"error":"invalid_client","error_description":"who?"}', "answered 401, invalid_client: who?"),
        (400, b'{"error":"a\\nb","error_description":7}', "answered 400"),
        (302, b"", "answered 302"),
        (None, b"", "answered None"),
        (500, b"<h1>Oops</h1>", "answered 500"),
        (200, b"[" * 65_536, "answered 200 without an access_token"),
        (200, b"[]", "answered 200 without an access_token"),
        (200, b"\xff", "answered 200 without an access_token"),
        (200, answer(access_token="a\r\nb"), "answered 200 without an access_token"),
        (200, answer(token_type="mac"), "answered with a token_type that is not Bearer"),
        (200, answer(token_type=None), "answered with a token_type that is not Bearer"),
        (200, answer(expires_in="soon"), "answered with an expires_in that is no number"),
        (200, answer(expires_in=10**400), "answered with an expires_in that is no number"),
        (200, answer(expires_in=float("nan")), "answered with an expires_in that is no number"),
        (200, answer(expires_in="inf"), "answered with an expires_in that is no number"),
        (200, answer(expires_in=-1), "answered with an expires_in that is no number"),
    ],
)
def test_another_answer_is_told_in_words(status_code: int | None, body: bytes, message: str) -> None:
    with pytest.raises(NoAccessTokenError) as refused:
        read_token(status_code, body)
    assert str(refused.value) == f"the authorization server {message}"
