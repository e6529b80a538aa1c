"""What the API's handlers work with, built once a process and closed in reverse order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile

from api.principals import Principals
from api.tokens import Tokens
from domain.url_rules import UrlRules
from settings import Settings
from storage.database import Database
from storage.passwords import Passwords
from storage.sealing import Sealer


@dataclass(frozen=True)
class Resources:
    """Everything a handler may need beside its request."""

    settings: Settings
    database: Database
    sealer: Sealer
    temporal: Client
    """Connects at its first call, and again by itself after an outage; a call meanwhile raises `RPCError`."""
    url_rules: UrlRules
    passwords: Passwords
    tokens: Tokens
    principals: Principals


async def _temporal_client() -> Client:
    connect = ClientConfigProfile.load().to_client_connect_config()
    connect.setdefault("target_host", "127.0.0.1:7233")
    return await Client.connect(**connect, lazy=True, data_converter=pydantic_data_converter)


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Build everything; neither database nor Temporal need be up for it."""
    tokens = Tokens([secret.get_secret_value() for secret in settings.jwt_secrets], settings.access_token_seconds)
    database = Database(settings.sqlalchemy_url, pool_size=settings.database_pool_size, name="loyalty-webhooks api")
    try:
        yield Resources(
            settings=settings,
            database=database,
            sealer=Sealer([key.get_secret_value() for key in settings.encryption_keys]),
            temporal=await _temporal_client(),
            url_rules=UrlRules(
                allow_http=settings.allow_http,
                allowed_ports=frozenset(settings.allowed_ports) or None,
                allowed_networks=settings.allowed_networks,
            ),
            passwords=Passwords(),
            tokens=tokens,
            principals=Principals(database, tokens),
        )
    finally:
        await database.close()


async def resources(request: Request) -> Resources:
    """The process's resources, as a dependency."""
    found: Resources = request.app.state.resources
    return found


FromResources = Annotated[Resources, Depends(resources)]
