"""A TCP connection that can be cut or frozen, between the code under test and a server it depends on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Passes bytes on until it is told otherwise. `port` listens on 127.0.0.1."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._lost: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.delay_seconds = 0.0
        """Of each piece of data, in each direction."""
        self.refused = 0
        """Connections that were refused so far."""
        self.held_back = 0
        """Pieces of data that met a frozen connection so far."""

    def freeze(self) -> None:
        """Hold back every byte from now on, as a stopped process does."""
        self._flowing.clear()

    def cut(self, *, refuse: bool = False) -> None:
        """Reset every connection; with `refuse` new ones too, as a process that died."""
        self._refusing = refuse
        for writer in self._writers:
            writer.transport.abort()

    def lose(self) -> None:
        """Drop whatever comes over each connection there is, as a network that is cut."""
        self._lost |= self._writers

    def mend(self) -> None:
        """Let everything through again."""
        self._refusing = False
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._writers.add(writer)
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        self._writers.add(upstream_writer)
        await asyncio.gather(self._pass_on(reader, upstream_writer), self._pass_on(upstream_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if writer in self._lost:
                    continue
                self.held_back += not self._flowing.is_set()
                await self._flowing.wait()
                await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
            self._writers.discard(writer)


@asynccontextmanager
async def database_behind_proxy(database_url: str) -> AsyncIterator[tuple[str, TcpProxy]]:
    """The address of a database that can be taken away, with what takes it away."""
    parts = urlsplit(database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with tcp_proxy(parts.hostname, parts.port) as proxy:
        yield urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}")), proxy


@asynccontextmanager
async def tcp_proxy(host: str, port: int) -> AsyncIterator[TcpProxy]:
    """A proxy in front of that server until the block ends."""
    proxy = TcpProxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.mend()
        proxy.cut()
        server.close()
