"""Access tokens by the client credentials grant. Source: RFC 6749, sections 2.3.1, 4.4 and 5."""

import base64
import json
import math
import re
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlencode

from domain.urls.rules import NormalisedUrl

LIFE_USED = 0.8
"""Share of its life in which a token is used: clocks differ, and the last requests are under way for a while."""

UNKNOWN_LIFE_SECONDS = 300.0
"""Life of a token whose response names none. A 401 ends it earlier."""

_VISIBLE = re.compile(r"[!-~]+")
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class OAuth2Client:
    """Registration at an authorization server. `scope` is empty for the server's default."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """Token, and the seconds for which it is used."""

    value: str = field(repr=False)
    use_seconds: float


class NoAccessTokenError(Exception):
    """The authorization server gave no access token. The message says why, and may quote the server's error."""


def client_basic(client: OAuth2Client) -> str:
    """Return the value of `Authorization` in a token request: both parts are form-encoded first (section 2.3.1)."""
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def token_request(client: OAuth2Client, url: NormalisedUrl, user_agent: str) -> bytes:
    """Return the bytes of the access token request (section 4.4.2)."""
    form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
    body = urlencode(form).encode()
    lines = (
        f"POST {url.target} HTTP/1.1",
        f"Host: {url.host}",
        f"Authorization: {client_basic(client)}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        f"User-Agent: {user_agent}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def read_token(status_code: int | None, body: bytes) -> AccessToken:
    """Return the token of a response (section 5.1). Raises NoAccessTokenError, with the error of section 5.2."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    if status_code != 200:
        words = (answer.get(name) for name in ("error", "error_description"))
        said = ": ".join(word for word in words if isinstance(word, str) and _PRINTABLE.fullmatch(word))
        raise NoAccessTokenError(f"the authorization server answered {status_code}{said and f', {said}'}")
    token, kind, seconds = answer.get("access_token"), answer.get("token_type"), answer.get("expires_in")
    if not isinstance(token, str) or _VISIBLE.fullmatch(token) is None:
        raise NoAccessTokenError("the authorization server answered 200 without an access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise NoAccessTokenError("the authorization server answered with a token_type that is not Bearer")
    try:
        life = UNKNOWN_LIFE_SECONDS if seconds is None else float(seconds)  # some servers send it as a string
    except (TypeError, ValueError, OverflowError):
        life = math.nan
    if not 0 <= life < math.inf:  # also for the NaN and Infinity that `json` reads
        raise NoAccessTokenError("the authorization server answered with an expires_in that is no number")
    return AccessToken(token, life * LIFE_USED)
