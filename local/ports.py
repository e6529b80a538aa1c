"""Ports on the loopback address: which one each part gets, and holding it for as long as the stack runs.

A component that dies must find its port again. So the port is bound here, never listened on, all the time: a second
socket with SO_REUSEADDR may bind and listen beside it (every server here sets that), while nobody else is given it
as a free one, neither as a server nor for an outgoing connection.
"""

import errno
import json
import random
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.errors import StackError
from local.private_file import write_private

HOST = "127.0.0.1"
LOWEST_FREE_PORT = 15000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
FREE_PORT_TRIES = 200


@dataclass(frozen=True)
class PortWish:
    """What one part wants. `asked` is what a person said: a port, 0 for a free one, or nothing; `option` how."""

    name: str
    title: str
    asked: int | None = 0
    default: int | None = None
    option: str | None = None


class PortReservations:
    """The ports of one stack, held until `release`."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}
        self.notes: list[str] = []

    def __getitem__(self, name: str) -> int:
        port: int = self._held[name].getsockname()[1]
        return port

    def as_mapping(self) -> dict[str, int]:
        """Name to port."""
        return {name: self[name] for name in self._held}

    def reserve(self, wish: PortWish, remembered: int | None) -> int:
        """Hold a port: the one asked for, else the one of the last start, else the default, else a free one.

        A default that gives way is noted in `notes`. Raises StackError when a port a person asked for is taken.
        """
        if wish.asked:
            held = hold(wish.asked)
            if held is None:
                raise StackError(
                    f"Port {wish.asked} for {wish.title} ({wish.option}) is taken. Stop the program that uses it, or "
                    f"name another port; 0 takes a free one."
                )
        else:
            held = self._preferred(wish, remembered) or hold_free()
        self._held[wish.name] = held
        return self[wish.name]

    def _preferred(self, wish: PortWish, remembered: int | None) -> socket.socket | None:
        default = wish.default if wish.asked is None else None
        for port in dict.fromkeys(port for port in (remembered, default) if port):
            held = hold(port)
            if held is not None:
                return held
            self.notes.append(f"Port {port} is taken by another program, so {wish.title} does not use it this time.")
        return None

    def release(self) -> None:
        """Let go of every port."""
        for held in self._held.values():
            held.close()
        self._held.clear()


def hold(port: int) -> socket.socket | None:
    """A socket bound to the port and not listening; none when somebody else has the port."""
    held = socket.socket()
    try:
        held.bind((HOST, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after binding: the bind itself was exclusive
        return held
    except PermissionError as error:
        held.close()
        raise StackError(f"Port {port} may only be used by root; name one from 1024 on.") from error
    except OSError as error:
        held.close()
        if error.errno != errno.EADDRINUSE:
            raise
    return _hold_beside_closing_connections(port)


def _hold_beside_closing_connections(port: int) -> socket.socket | None:
    """A port whose last server has gone stays busy for a minute while its old connections fade: that is no obstacle."""
    if not any(port == local for local in _ports_of_known_sockets()):
        return None  # bound and not listening: another stack holds it
    probe = _reusing_socket()
    try:
        probe.bind((HOST, port))
        probe.listen(1)
    except OSError:
        return None
    finally:
        probe.close()
    held = _reusing_socket()
    try:
        held.bind((HOST, port))
    except OSError:
        held.close()
        return None
    return held


def _reusing_socket() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _ports_of_known_sockets() -> Iterator[int]:
    """Local ports of listening, open and closing connections; the kernel does not list merely bound ones."""
    for table in SOCKET_TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            yield int(line.split()[1].rpartition(":")[2], 16)


def hold_free() -> socket.socket:
    """Hold a free port below the range from which the kernel serves outgoing connections.

    Raises StackError when none is found.
    """
    highest = _first_ephemeral_port() - 1
    if highest - LOWEST_FREE_PORT < FREE_PORT_TRIES:  # a range that leaves no room: let the kernel choose
        held = hold(0)
        if held is not None:
            return held
    for _ in range(FREE_PORT_TRIES):
        held = hold(random.randint(LOWEST_FREE_PORT, highest))  # noqa: S311 - nothing to guess about a port
        if held is not None:
            return held
    raise StackError(f"No free port was found on {HOST}.")


def _first_ephemeral_port() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def read_remembered(path: Path) -> dict[str, int]:
    """The ports of the last start; empty when there was none or the file is damaged: they are only a preference."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: port for name, port in content.items() if isinstance(port, int) and 0 < port < 65536}


def remember(path: Path, ports: Mapping[str, int]) -> None:
    """Keep the ports for the next start."""
    write_private(path, json.dumps(dict(ports), indent=2) + "\n")
