"""A network namespace for each process of a run, joined by routes through the harness's own, where packets are lost.

The harness runs in namespaces of its own (`tests/chaos/isolation.py`), so that nothing of this touches the machine, and
all of it is gone when the harness ends. Cuts and losses are rules of iptables (loss: `statistic`), which tell who is
meant by address; resets are `ss -K`. A delay is made by a relay process (`tests/chaos/delay.py`), between two
processes of several, with every kernel: `tc netem`, which delays an interface, is not needed.
"""

import asyncio
import functools
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL, Popen
from types import TracebackType
from typing import Self

from local.ports import HOST
from local.processes import LAUNCHER, Component, ended, launch
from tests.house import ROOT

HARNESS = "10.77.0.1"
"""Address of the harness. It asks processes whether they are ready, and is never cut off."""

PLATFORM = "10.77.0.2"
"""Address of the emitter, which is cut off as others are."""

SUBNET = "10.77.0.0/16"
ANYWHERE = "0.0.0.0"
"""What servers listen on: the parts of Temporal's development server reach each other by the loopback address."""

LOSS = 0.3
DELAY_SECONDS = 0.3
DELAY_DEVICE, DELAY_TABLE = "chaos-delay", "77"
RULES = "CHAOS"
JOINED_SECONDS = 10.0
PROGRAMS = ("unshare", "nsenter", "ip", "iptables", "ss", "sleep")

_NUMBERS = itertools.count(3)
"""Last parts of addresses, counted over all runs of this process: a namespace ends after its last process."""


@dataclass(frozen=True)
class Place:
    """Where a process runs: its address, and the command line that enters its namespace."""

    address: str = HOST
    enter: tuple[str, ...] = ()
    device: str = ""
    """The harness's end of the way to it."""

    def put(self, component: Component) -> Component:
        """Return the component as it runs here. Root enters the namespace, and changes the user afterwards."""
        if not self.enter:
            return component
        account = component.account
        user = (str(account.uid), str(account.gid)) if account else ("-", "-")
        parent, death_signal = str(os.getpid()), str(int(component.death_signal))
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER), parent, death_signal, *user)
        command = (argument.replace(HOST, ANYWHERE) for argument in component.command)
        return replace(component, command=(*self.enter, *launcher, *command), account=None)


LOOPBACK = Place()


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found


def _run(*command: str) -> str:
    """Run a command to its end and return its output. Raises AssertionError with what it said."""
    program = (_program(command[0]), *command[1:])
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


async def _do(*command: str) -> str:
    return await asyncio.to_thread(_run, *command)


@functools.cache
def _set_up() -> None:
    """Make the harness's namespace a router, once."""
    _run("ip", "link", "set", "lo", "up")
    for address in (HARNESS, PLATFORM):
        _run("ip", "address", "add", f"{address}/32", "dev", "lo")
    _run("iptables", "-N", RULES)
    for way in ("-s", "-d"):
        _run("iptables", "-A", RULES, way, HARNESS, "-j", "RETURN")
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        _run("iptables", "-A", chain, "-j", RULES)
    _run("ip", "tuntap", "add", "dev", DELAY_DEVICE, "mode", "tun")
    _run("ip", "link", "set", DELAY_DEVICE, "up")
    _run("ip", "route", "add", "default", "dev", DELAY_DEVICE, "table", DELAY_TABLE)
    settings = Path("/proc/sys/net/ipv4")
    (settings / "ip_forward").write_text("1")
    (settings / "conf" / DELAY_DEVICE / "accept_local").write_text("1")  # delayed packets of the platform


class Network:
    """The namespaces of one run."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        """By the name of the process."""
        self._holders: list[Popen[bytes]] = []
        """Processes that do nothing but keep a namespace."""

    async def __aenter__(self) -> Self:
        _set_up()
        module = ("-m", "tests.chaos.delay", DELAY_DEVICE, str(DELAY_SECONDS))
        self._holders.append(launch((sys.executable, *module), os.environ, directory=ROOT, output=DEVNULL))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self.places.values():
            await _do("ip", "link", "delete", place.device)
        for process in self._holders:
            process.kill()
            await ended(process)

    async def join(self, name: str) -> Place:
        """Make a namespace with an address of its own for a process."""
        number = next(_NUMBERS)
        address, device = f"10.77.{number // 256}.{number % 256}", f"chaos{number}"
        command = (_program("unshare"), "--net", _program("sleep"), "infinity")
        holder = launch(command, os.environ, directory=ROOT, output=DEVNULL)
        self._holders.append(holder)
        namespace = Path(f"/proc/{holder.pid}/ns/net")
        deadline = time.monotonic() + JOINED_SECONDS
        while namespace.readlink() == Path("/proc/self/ns/net").readlink():
            assert time.monotonic() < deadline, "no network namespace was made"
            await asyncio.sleep(0.01)
        inside = ("nsenter", f"--net={namespace}", "ip")
        await _do(*f"ip link add {device} type veth peer name eth0 netns {holder.pid}".split())
        await _do("ip", "link", "set", device, "up")
        await _do(*f"ip route add {address}/32 dev {device} src {HARNESS}".split())
        await _do(*inside, "link", "set", "lo", "up")
        await _do(*inside, "address", "add", f"{address}/32", "dev", "eth0")
        await _do(*inside, "link", "set", "eth0", "up")
        await _do(*inside, "route", "add", f"{HARNESS}/32", "dev", "eth0")
        await _do(*inside, "route", "add", "default", "via", HARNESS)
        place = Place(address, (_program("nsenter"), f"--net={namespace}"), device)
        self.places[name] = place
        return place

    @asynccontextmanager
    async def disturbed(self, kind: str, name: str, other: str | None = None) -> AsyncIterator[None]:
        """During the block, packets between a process and another one, or all others, are cut, lost or delayed."""
        if kind == "delay":
            commands = [("ip", "rule", "%s", *rule) for rule in self._delayed(name, other)]
            begin, end = "add", "delete"
        else:
            commands = [("iptables", "%s", RULES, *rule) for rule in self._dropped(kind, name, other)]
            begin, end = "-A", "-D"
        begun: list[tuple[str, ...]] = []
        try:
            for command in commands:
                await _do(*(begin if part == "%s" else part for part in command))
                begun.append(command)
            yield
        finally:
            for command in begun:
                await _do(*(end if part == "%s" else part for part in command))

    def _dropped(self, kind: str, name: str, other: str | None) -> list[tuple[str, ...]]:
        address = self.places[name].address
        others = None if other is None else self.places[other].address
        outgoing = ("-s", address, *(() if others is None else ("-d", others)))
        incoming = ("-d", address, *(() if others is None else ("-s", others)))
        ways = {"cut outgoing": (outgoing,), "cut incoming": (incoming,)}.get(kind, (outgoing, incoming))
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(LOSS)) if kind == "loss" else ()
        return [(*way, *chance, "-j", "DROP") for way in ways]

    def _delayed(self, name: str, other: str | None) -> list[tuple[str, ...]]:
        """Rules by which packets take the way through the relay, unless they come from there. What goes to the
        platform, an address of the harness's own namespace, is not delayed."""
        place = self.places[name]
        others = [one for key, one in self.places.items() if key != name and other in (None, key)]
        ways = [(a, b) for one in others for a, b in ((place, one), (one, place))]
        rules = [("iif", a.device, "to", b.address, "lookup", DELAY_TABLE) for a, b in ways]
        if other is None:
            rules.append(("iif", "lo", "from", PLATFORM, "to", place.address, "lookup", DELAY_TABLE))
        return rules

    async def reset(self, name: str, other: str | None = None) -> int:
        """Reset the established connections of a process with another one, or all others; how many."""
        place = self.places[name]
        peers = ("not", "dst", HARNESS) if other is None else ("dst", self.places[other].address)
        said = await _do(
            *("nsenter", *place.enter[1:], "ss", "--kill", "--no-header", "--tcp", "--numeric"),
            *("state", "established", "(", *peers, ")"),
        )
        return len(said.splitlines())
