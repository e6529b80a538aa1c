"""The connection to Temporal, configured by Temporal's own environment (`TEMPORAL_ADDRESS`, …)."""

from collections.abc import Sequence

from temporalio.client import Client, Interceptor
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime

from temporal.codec import data_converter

LOCAL_ADDRESS = "127.0.0.1:7233"
"""Where Temporal is when its environment names no address."""


async def temporal_client(
    *,
    lazy: bool,
    payload_keys: Sequence[str],
    runtime: Runtime | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> Client:
    """A client; a lazy one connects at its first call. Raises `RuntimeError` when it cannot connect."""
    connect = ClientConfigProfile.load().to_client_connect_config()
    connect.setdefault("target_host", LOCAL_ADDRESS)
    return await Client.connect(
        **connect,
        lazy=lazy,
        data_converter=data_converter(payload_keys),
        runtime=runtime,
        interceptors=interceptors,
    )
