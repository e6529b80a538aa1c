"""Routes of log-in: user name and password, or a refresh token, for a pair of tokens."""

import secrets
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.body import Input, JsonBody, Output
from api.errors import BadCredentials, InvalidToken
from api.login.credentials import CREDENTIAL_MOST, judged
from api.resources import FromResources, Resources
from storage.access.queries import find_administrator, note_login, store_refresh_token, use_refresh_token
from storage.access.tables import Administrator

REFRESH_TOKEN_BYTES = 32

router = APIRouter(prefix="/api", tags=["access"])


class Login(Input):
    """Credentials of an administrator."""

    username: Annotated[str, Field(max_length=CREDENTIAL_MOST)]
    password: Annotated[str, Field(max_length=CREDENTIAL_MOST)]


class Refresh(Input):
    """An unused refresh token."""

    model_config = ConfigDict(alias_generator=None)

    refresh_token: Annotated[str, Field(max_length=CREDENTIAL_MOST)]


class TokenPair(Output):
    """A JWT for `Authorization: Bearer`, and a single-use refresh token for the next pair."""

    model_config = ConfigDict(alias_generator=None)

    token: str
    refresh_token: str


LoginBody = Annotated[Login, Depends(JsonBody(Login))]
RefreshBody = Annotated[Refresh, Depends(JsonBody(Refresh))]


async def _next_pair(
    connection: AsyncConnection, resources: Resources, administrator: Administrator, family: UUID
) -> TokenPair:
    refresh_token = secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
    days = resources.settings.refresh_token_days
    await store_refresh_token(connection, refresh_token, administrator.id, family, days)
    return TokenPair(token=resources.tokens.issue(administrator, refresh_token), refresh_token=refresh_token)


@router.post("/admin/login_check", summary="Log in", responses={401: {}, 429: {}, 503: {}})
async def log_in(body: LoginBody, request: Request, resources: FromResources) -> TokenPair:
    """Return a pair of tokens. Wrong credentials are a 401 that does not disclose which of the two was wrong."""
    administrator, rehashed = await judged(resources, body.username, body.password, request)
    async with resources.database.transaction() as connection:
        if not await note_login(connection, administrator, rehashed):
            raise BadCredentials
        return await _next_pair(connection, resources, administrator, uuid4())


@router.post("/token/refresh", summary="Refresh a pair of tokens", responses={401: {}, 503: {}})
async def refresh_tokens(body: RefreshBody, resources: FromResources) -> TokenPair:
    """Return the next pair. A refresh token works once; reusing it ends all tokens of its log-in."""
    pair: TokenPair | None = None
    async with resources.database.transaction() as connection:
        used = await use_refresh_token(connection, body.refresh_token)
        if used is not None:
            administrator = await find_administrator(connection, administrator_id=used[0])
            if administrator is not None and administrator.active:
                pair = await _next_pair(connection, resources, administrator, used[1])
    # Raise after the transaction: the revocation caused by a reused token has to be committed.
    if pair is None:
        raise InvalidToken
    return pair
