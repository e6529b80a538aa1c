"""The panel's cookies: who is logged in, and the token that proves that a form is ours.

The session's cookie holds 256 random bits; the row keeps their hash (`storage/access/sessions.py`). The CSRF token is
derived from the cookie, so it needs no store and ends with the session. Before the log-in the cookie is there already,
without a row: the log-in form is protected by the same token, and logging in gives a fresh cookie.
"""

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

SESSION_COOKIE = "loyalty_webhooks_session"
PATH = "/admin"
TOKEN_BYTES = 32
MOST_TOKEN_CHARACTERS = 64
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


@dataclass(frozen=True, slots=True)
class BrowserToken:
    """What the session's cookie holds. `fresh`: the browser does not have it yet."""

    value: str
    fresh: bool

    @property
    def csrf(self) -> str:
        """What every form of this browser has to send back."""
        return hmac.new(self.value.encode(), b"csrf", sha256).hexdigest()


def new_token() -> str:
    """A token for a session."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def browser_token(request: Request) -> BrowserToken:
    """The cookie's, or a new one."""
    value = request.cookies.get(SESSION_COOKIE, "")
    if 0 < len(value) <= MOST_TOKEN_CHARACTERS:
        return BrowserToken(value, fresh=False)
    return BrowserToken(new_token(), fresh=True)


def set_token(response: Response, request: Request, token: str) -> None:
    """Give the browser its token. `Secure` as soon as it speaks TLS with us or with a proxy: one that is not trusted
    does not say so, but the browser does in the origin of the form that logs in."""
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(SESSION_COOKIE, token, path=PATH, httponly=True, samesite="lax", secure=secure)


def drop_token(response: Response) -> None:
    """Take the token back."""
    response.delete_cookie(SESSION_COOKIE, path=PATH, httponly=True, samesite="lax")


def is_ours(request: Request, sent: str, token: BrowserToken) -> bool:
    """Whether a POST comes from a page of ours: by its token, and by the origin where the browser names it.

    Origins are compared by host alone: behind a proxy that is not trusted the scheme is not known.
    """
    origin = request.headers.get("origin")
    if origin is not None and _host_of(origin) != request.headers.get("host"):
        return False
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return hmac.compare_digest(sent.encode(), token.csrf.encode())


def _host_of(origin: str) -> str | None:
    """Host and port, or None where it names none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
