"""HTTP server inside of a process that does other work: uvicorn's connections without its handling of signals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

KEEP_ALIVE_SECONDS = 75
"""Maximum idle time of a connection. Longer than that of our sender and of Prometheus, which close theirs first."""

MOST_CONNECTIONS = 100
"""Maximum number of open connections. Probes and Prometheus need a few."""

REQUEST_SECONDS = 10.0
"""Time in which a request has to arrive, from the connection or from its first byte."""


class ProbeProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection that is closed if its requests stay unfinished, or if too many are open."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request, or refuse it beyond the limit."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data to the parser, and wait for the rest of a request that begins with it."""
        if self._timer is None and self.cycle is not None and self.cycle.response_complete:
            self._await_request()
        super().data_received(data)

    def on_message_complete(self) -> None:
        """End the wait."""
        self._stop_timer()
        super().on_message_complete()

    def _await_request(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@asynccontextmanager
async def serving(app: Any, protocol: type[HttpToolsProtocol] = ProbeProtocol, **address: Any) -> AsyncIterator[None]:
    """Serve an ASGI application at an address of `loop.create_server` until the block ends. Then every connection is
    closed; a request in progress sees `http.disconnect`."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol,
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
