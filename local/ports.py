"""Loopback ports of the components: selection, and reservation for as long as the stack runs.

A restarted component must get its port again. So this process keeps the port bound without listening: a server with
SO_REUSEADDR, as every component here, may bind and listen on it, while the kernel assigns it to no other server and
to no outgoing connection.
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
        """Return the ports by name."""
        return {name: self[name] for name in self._held}

    def reserve(self, wish: PortWish, remembered: int | None) -> int:
        """Reserve a port: the requested one, else that of the last start, else the default, else a free one.

        Adds a message to `notes` if a default is in use. Raises StackError if the requested port is in use.
        """
        if wish.asked:
            held = hold(wish.asked)
            if held is None:
                raise StackError(
                    f"Port {wish.asked} for {wish.title} ({wish.option}) is in use. Stop the program that uses it, or "
                    f"pass another port; 0 takes a free one."
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
            self.notes.append(f"Port {port} is in use by another program, so {wish.title} uses another one this time.")
        return None

    def release(self) -> None:
        """Release every port."""
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
    except PermissionError as error:
        held.close()
        raise StackError(f"Port {port} is reserved for root; pass a port from 1024 on.") from error
    except OSError as error:
        held.close()
        if error.errno != errno.EADDRINUSE:
            raise
    return _hold_beside_closing_connections(port)


def _hold_beside_closing_connections(port: int) -> socket.socket | None:
    """Bind a port that is busy only with closing connections. They last for a minute after the server's end."""
    if not any(port == local for local in _ports_of_known_sockets()):
        return None  # bound and not listening: reserved by another stack
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
    """Yield local ports of listening, open and closing connections. The kernel does not list bound-only sockets."""
    for table in SOCKET_TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            yield int(line.split()[1].rpartition(":")[2], 16)


def hold_free() -> socket.socket:
    """Reserve a free port below the range of the kernel's outgoing connections.

    Raises StackError if none is found.
    """
    highest = _first_ephemeral_port() - 1
    if highest - LOWEST_FREE_PORT < FREE_PORT_TRIES:  # too few ports below the range: let the kernel choose
        held = hold(0)
        if held is not None:
            return held
    for _ in range(FREE_PORT_TRIES):
        held = hold(random.randint(LOWEST_FREE_PORT, highest))  # noqa: S311 - a port is not a secret
        if held is not None:
            return held
    raise StackError(f"No free port was found on {HOST}.")


def _first_ephemeral_port() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def read_remembered(path: Path) -> dict[str, int]:
    """Return the ports of the last start. Empty if the file is missing or damaged: they are only a preference."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: port for name, port in content.items() if isinstance(port, int) and 0 < port < 65536}


def remember(path: Path, ports: Mapping[str, int]) -> None:
    """Save the ports for the next start."""
    write_private(path, json.dumps(dict(ports), indent=2) + "\n")
