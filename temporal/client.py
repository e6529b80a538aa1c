"""Client of Temporal, configured by Temporal's own environment variables (`TEMPORAL_ADDRESS`, …)."""

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio.client import Client, Interceptor
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from temporal.codec import EncryptingCodec, data_converter

T = TypeVar("T")

LOCAL_ADDRESS = "127.0.0.1:7233"
"""Address of Temporal if the environment names none."""

START_TIMEOUT = timedelta(seconds=5)
"""Time-out of a start or signal. Temporal answers within milliseconds or is away; the call is repeated with its id."""


async def temporal_client(
    *, lazy: bool, payload_keys: Sequence[str], runtime: Runtime | None = None, interceptors: Sequence[Interceptor] = ()
) -> Client:
    """Return a client. A lazy one connects at its first call. Raises `RuntimeError` if it cannot connect."""
    connect = ClientConfigProfile.load().to_client_connect_config()
    connect.setdefault("target_host", LOCAL_ADDRESS)
    return await Client.connect(
        **connect, lazy=lazy, data_converter=data_converter(payload_keys), runtime=runtime, interceptors=interceptors
    )


def encrypts(client: Client) -> bool:
    """Return True if the client encrypts payloads. Search attributes then name no receiver either."""
    codec = client.data_converter.payload_codec
    return isinstance(codec, EncryptingCodec) and codec.encrypts


async def found_or_none(call: Awaitable[T]) -> T | None:
    """Return the answer of Temporal, or None if what the call is about does not exist."""
    try:
        return await call
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
