"""Client of Temporal, configured by Temporal's own environment variables (`TEMPORAL_ADDRESS`, …)."""

from collections.abc import Sequence

from temporalio.client import Client, Interceptor
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import Runtime

from temporal.codec import data_converter

LOCAL_ADDRESS = "127.0.0.1:7233"
"""Address of Temporal if the environment names none."""


async def temporal_client(
    *,
    lazy: bool,
    payload_keys: Sequence[str],
    runtime: Runtime | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> Client:
    """Return a client. A lazy one connects at its first call. Raises `RuntimeError` if it cannot connect."""
    connect = ClientConfigProfile.load().to_client_connect_config()
    connect.setdefault("target_host", LOCAL_ADDRESS)
    return await Client.connect(
        **connect,
        lazy=lazy,
        data_converter=data_converter(payload_keys),
        runtime=runtime,
        interceptors=interceptors,
    )
