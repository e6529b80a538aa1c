"""HTTP server inside of a process that does other work: uvicorn's connections without its handling of signals."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from telemetry.connections import BoundedProtocol, ConnectionLimits

KEEP_ALIVE_SECONDS = 75
"""Maximum idle time of a connection. Longer than that of our sender and of Prometheus, which close theirs first."""


@asynccontextmanager
async def serving(
    app: Any, protocol: Callable[..., HttpToolsProtocol] | None = None, **address: Any
) -> AsyncIterator[None]:
    """Serve an ASGI application at an address of `loop.create_server` until the block ends. Then every connection is
    closed; a request in progress sees `http.disconnect`. Connections have the default limits unless `protocol` is
    given."""
    protocol = protocol or partial(BoundedProtocol, ConnectionLimits())
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol,  # type: ignore[arg-type]  # called like a class
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), **address
    )
    try:
        yield
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(list(state.tasks))
