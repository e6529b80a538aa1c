"""Forward proxies: tinyproxy, a real one, and one that answers CONNECT as a test tells it."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from local.ports import hold_free
from tests.tcp_proxy import TcpProxy


class Tinyproxy:
    """tinyproxy on `port` of 127.0.0.1."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    @property
    def asked(self) -> list[str]:
        """What it was asked to connect to, in order."""
        return re.findall(r": CONNECT (\S+) HTTP/", self._log.read_text())


@contextmanager
def tinyproxy(folder: Path, *lines: str, port: int | None = None) -> Iterator[Tinyproxy]:
    """tinyproxy with these lines of configuration, its files in `folder`, on a free port unless one is given."""
    program = shutil.which("tinyproxy")
    if program is None:
        pytest.skip("tinyproxy is not installed (Debian: apt install tinyproxy-bin)")
    if port is None:
        with hold_free() as held:
            port = held.getsockname()[1]
    log = folder / f"tinyproxy-{port}.log"
    usual = (f"Port {port}", "Listen 127.0.0.1", f'LogFile "{log}"', "LogLevel Connect", "MaxClients 50", "Timeout 60")
    configuration = folder / f"tinyproxy-{port}.conf"
    configuration.write_text("\n".join((*usual, *lines, "")))
    with subprocess.Popen([program, "-d", "-c", configuration], stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while not _listens(port):
                assert process.poll() is None, "tinyproxy ended"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield Tinyproxy(port, log)
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ScriptedProxy:
    """A proxy that answers each CONNECT with `answer`, then passes everything on to `upstream`, if there is one."""

    def __init__(self, answer: bytes, upstream: int | None) -> None:
        self.heads: list[str] = []
        self.answer = answer
        self.connections = 0
        self.port = 0
        self._upstream = TcpProxy("127.0.0.1", upstream) if upstream is not None else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            if self._upstream is not None:
                await self._upstream.serve(reader, writer)
            elif self.answer:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted_proxy(
    answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", upstream: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedProxy]:
    """A proxy on 127.0.0.1 until the block ends; over TLS with a context."""
    proxy = ScriptedProxy(answer, upstream)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
