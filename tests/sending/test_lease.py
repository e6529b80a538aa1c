"""A worker that lives keeps its lease, however slow its network is."""

from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from sending.lease import lease
from tests.deadlines import eventually
from tests.ground import Ground
from tests.tcp_proxy import tcp_proxy

SLOW_SECONDS = 0.35
"""Each way: the two round trips that a transaction adds to its statement would take longer than a lease lasts."""

RENEWALS = 2


async def test_a_lease_does_not_lapse_behind_a_slow_network(cleared_url: str, ground: Ground) -> None:
    worker_id, parts = uuid4(), urlsplit(cleared_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with tcp_proxy(parts.hostname, parts.port) as proxy:
        proxy.delay_seconds = SLOW_SECONDS
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        async with lease(urlunsplit(parts._replace(netloc=netloc)), worker_id):
            seen = set()

            async def renewed() -> bool:
                seen.add(await ground.scalar("SELECT max(seen_at) FROM worker"))
                return len(seen) > RENEWALS

            await eventually(renewed, 40, f"{RENEWALS} renewals")
            assert await ground.scalar("SELECT count(*) FROM worker WHERE steady_since - started_at < interval '1 s'")
