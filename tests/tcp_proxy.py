"""A TCP proxy in front of a server, to take the server away from whoever connects through it.

async with TcpProxy(host, port) as proxy:
    connect_to(proxy.host, proxy.port)
    await proxy.refuse()      # connections are broken off, new ones refused: the server is down
    proxy.freeze()            # connections stand and carry nothing: the network is gone
    await proxy.heal()
"""

import asyncio
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class TcpProxy:
    """Forwards bytes while it is well. `connections` counts those accepted."""

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = target_host, target_port
        self._server: asyncio.Server | None = None
        self._well = asyncio.Event()
        self._transports: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            self.port: int = probe.getsockname()[1]

    def instead_of(self, url: str) -> str:
        """The URL of the server, through the proxy."""
        parts = urlsplit(url)
        user = f"{parts.username}@" if parts.username else ""
        return urlunsplit(parts._replace(netloc=f"{user}{self.host}:{self.port}"))

    async def heal(self) -> None:
        """Listen, and let bytes through."""
        self._well.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)

    async def refuse(self) -> None:
        """Break all connections off and accept no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Break all connections off; new ones are taken as before."""
        for transport in list(self._transports):
            transport.abort()

    def freeze(self) -> None:
        """Keep the connections, let nothing through."""
        self._well.clear()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._transports.add(writer.transport)
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._target)
            self._transports.add(to_writer.transport)
            try:
                await asyncio.gather(self._forward(reader, to_writer), self._forward(to_reader, writer))
            finally:
                to_writer.transport.abort()
                self._transports.discard(to_writer.transport)
        except (OSError, asyncio.CancelledError):
            pass  # either side went away, or the test is over
        finally:
            writer.transport.abort()
            self._transports.discard(writer.transport)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._well.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
