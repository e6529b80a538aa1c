"""Verification of an administrator's user name and password, for the API and the panel."""

import logging

from starlette.requests import Request

from api.errors import BadCredentials, TooManyAttempts
from api.resources import Resources
from storage.access.queries import find_administrator
from storage.access.tables import Administrator

logger = logging.getLogger(__name__)

CREDENTIAL_MOST = 1024
"""Maximum length of a credential in characters. The time to hash a password grows with its length."""


async def judged(
    resources: Resources, username: str, password: str, request: Request
) -> tuple[Administrator, str | None]:
    """Return the administrator, and a new password hash if the hashing parameters have changed.

    The calling code records the log-in in its own transaction. Raises BadCredentials and TooManyAttempts.
    """
    address = request.client.host if request.client else ""
    wait = resources.login_throttle.begin(username, address)
    if wait:
        raise TooManyAttempts(f"Too many failed log-ins; try again in {wait} s.", wait)
    administrator = await resources.principals.look_up(find_administrator, username=username)
    stored = administrator.password_hash if administrator is not None and administrator.active else None
    fits, rehashed = await resources.passwords.verify(password, stored)
    if administrator is None or not fits:
        logger.warning("log-in refused", extra={"address": address})
        raise BadCredentials
    resources.login_throttle.succeeded(username, address)
    return administrator, rehashed
