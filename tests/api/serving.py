"""An API that is started already, on a port of its own, for what speaks HTTP to it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from telemetry.connections import BoundedProtocol, ConnectionLimits


@asynccontextmanager
async def serving(app: FastAPI, *, most: int = 1000, seconds: float = 60, idle_seconds: int = 5) -> AsyncIterator[str]:
    """Its root, http://host:port, until the block ends. A head, and a pause in a body, may take these seconds."""
    # Only with this protocol, asyncio lets responses out at once; otherwise each would wait 40 ms for a delayed ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    limits = ConnectionLimits(most, app.state.metrics.connections, "CONNECTION_LIMIT", seconds, seconds)
    protocol = partial(BoundedProtocol, limits)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,  # type: ignore[arg-type]  # called like a class
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=idle_seconds,
        )
    )
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve([listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await task
