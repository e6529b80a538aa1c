"""An API that is started already, on a port of its own, for what speaks HTTP to it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from api.connections import BoundedProtocol


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Its root, http://host:port, until the block ends."""
    # Only with this protocol, asyncio lets responses out at once; otherwise each would wait 40 ms for a delayed ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    server = uvicorn.Server(
        uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_level="warning", access_log=False)
    )
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve([listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await task
