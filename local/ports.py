"""Loopback ports of the components: selection, and reservation for as long as the stack runs.

A restarted component must get its port again. So this process keeps the port bound without listening: a server with
SO_REUSEADDR, as every component here, may bind and listen on it, while the kernel assigns it to no other server and
to no outgoing connection.
"""

import contextlib
import errno
import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.data_directory import StackError, write_private

HOST = "127.0.0.1"
LOWEST_FREE_PORT = 15000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
FREE_PORT_TRIES = 200


@dataclass(frozen=True)
class PortWish:
    """Requested port of a component. `asked` is the value of `option`: a port, 0 for a free one, or None."""

    name: str
    title: str
    asked: int | None = 0
    default: int | None = None
    option: str | None = None


class PortReservations:
    """Ports of one stack, reserved until `release`."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}
        self.notes: list[str] = []

    def __getitem__(self, name: str) -> int:
        port: int = self._held[name].getsockname()[1]
        return port

    def as_mapping(self) -> dict[str, int]:
        return {name: self[name] for name in self._held}

    def reserve(self, wish: PortWish, remembered: int | None) -> int:
        """Reserve a port: the requested one, else that of the last start, else the default, else a free one. Adds a
        message to `notes` if a default is in use. Raises StackError if the requested port is in use."""
        held = hold(wish.asked) if wish.asked else self._preferred(wish, remembered) or hold_free()
        if held is None:
            raise StackError(
                f"Port {wish.asked} for {wish.title} ({wish.option}) is in use. Stop the program that uses it, or "
                f"pass another port; 0 takes a free one."
            )
        self._held[wish.name] = held
        return self[wish.name]

    def _preferred(self, wish: PortWish, remembered: int | None) -> socket.socket | None:
        default = wish.default if wish.asked is None else None
        for port in dict.fromkeys(port for port in (remembered, default) if port):
            held = hold(port)
            if held is not None:
                return held
            self.notes.append(f"Port {port} is in use by another program, so {wish.title} uses another one this time.")
        return None

    def release(self) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()


def hold(port: int) -> socket.socket | None:
    """Return a socket bound to the port and not listening, or None if the port is in use."""
    held = socket.socket()
    try:
        held.bind((HOST, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after bind(), so that the bind itself is exclusive
        return held
    except OSError as error:
        held.close()
        if isinstance(error, PermissionError):
            raise StackError(f"Port {port} is reserved for root; pass a port from 1024 on.") from error
        if error.errno != errno.EADDRINUSE:
            raise
    # A port that is busy only with closing connections may be bound. They last for a minute after the server's end. One
    # without known sockets is bound and not listening: reserved by another stack.
    if port not in _ports_of_known_sockets():
        return None
    try:
        with _reusing_socket(port) as probe:
            probe.listen(1)
        return _reusing_socket(port)
    except OSError:
        return None


def _reusing_socket(port: int) -> socket.socket:
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        return made
    except OSError:
        made.close()
        raise


def _ports_of_known_sockets() -> set[int]:
    """Return local ports of listening, open and closing connections. The kernel does not list bound-only sockets."""
    rows: list[str] = []
    for table in SOCKET_TABLES:
        with contextlib.suppress(OSError):
            rows += table.read_text().splitlines()[1:]
    return {int(row.split()[1].rpartition(":")[2], 16) for row in rows}


def hold_free() -> socket.socket:
    """Reserve a free port below the range of the kernel's outgoing connections. Raises StackError if none is found."""
    try:
        highest = int(EPHEMERAL_RANGE.read_text().split()[0]) - 1
    except (OSError, ValueError, IndexError):
        highest = 32767
    below = range(LOWEST_FREE_PORT, highest + 1)  # too few ports there: let the kernel choose
    ports = [0] if len(below) < FREE_PORT_TRIES else random.sample(below, FREE_PORT_TRIES)
    for port in ports:
        held = hold(port)
        if held is not None:
            return held
    raise StackError(f"No free port was found on {HOST}.")


def read_remembered(path: Path) -> dict[str, int]:
    """Return the ports of the last start. Empty if the file is missing or damaged: they are only a preference."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return {name: port for name, port in content.items() if isinstance(port, int) and 0 < port < 65536}
    return {}


def remember(path: Path, ports: Mapping[str, int]) -> None:
    """Save the ports for the next start."""
    write_private(path, json.dumps(dict(ports), indent=2) + "\n")
