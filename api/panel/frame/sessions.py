"""Session cookie and CSRF token of the panel.

The session cookie holds 256 random bits; the database stores their hash (`storage/access/sessions.py`). The CSRF token
is derived from the cookie, so it is not stored and ends with the session. The cookie is set before the log-in, without
a row in the database, so that the same token protects the log-in form. The log-in issues a new cookie.
"""

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256

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
    """Value of the session cookie; `fresh` if the browser does not have it yet."""

    value: str
    fresh: bool

    @property
    def csrf(self) -> str:
        """Return the CSRF token that every form of this browser must send."""
        return hmac.new(self.value.encode(), b"csrf", sha256).hexdigest()


def new_token() -> str:
    """Return a new random session token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def browser_token(request: Request) -> BrowserToken:
    """Return the token of the cookie, or a new one."""
    value = request.cookies.get(SESSION_COOKIE, "")
    if 0 < len(value) <= MOST_TOKEN_CHARACTERS:
        return BrowserToken(value, fresh=False)
    return BrowserToken(new_token(), fresh=True)


def set_token(response: Response, request: Request, token: str) -> None:
    """Set the session cookie, with `Secure` if the browser uses TLS.

    Behind an untrusted proxy the request's scheme is unknown, so the scheme of the form's origin counts as well.
    """
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(SESSION_COOKIE, token, path=PATH, httponly=True, samesite="lax", secure=secure)


def is_ours(request: Request, sent: str, token: BrowserToken) -> bool:
    """Return True if a POST comes from a page of the panel: by its CSRF token, and by its origin if it has one.

    Only hosts are compared, because behind an untrusted proxy the scheme is unknown.
    """
    origin = request.headers.get("origin")
    if origin is not None and (origin.partition("://")[2] or None) != request.headers.get("host"):
        return False
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return hmac.compare_digest(sent.encode(), token.csrf.encode())
