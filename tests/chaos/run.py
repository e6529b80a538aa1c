"""One run: the stack, its receiver and its emitter for a while, under the disturbances of a seed; then the ledger."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.temporal_server import RunningTemporal
from local.ports import HOST
from local.processes import ended, launch
from tests.chaos.emitter import Emitter
from tests.chaos.executioner import execute
from tests.chaos.findings import early, timed_retries
from tests.chaos.ledger import Attempt, Ledger, read_arrivals
from tests.chaos.load import load
from tests.chaos.network import LOOPBACK, PLATFORM, Network, Place
from tests.chaos.roles import RETRY_SCHEDULE, ROLES, Role
from tests.chaos.stack import ChaosStack, chaos_stack
from tests.chaos.timetable import COMPONENTS, Action, timetable
from tests.chaos.verdict import REQUEST_SECONDS, duplicates, lost, together
from tests.house import ROOT

SETTINGS = {
    "BREAKER_FIRST_PROBE_SECONDS": "2",
    "BREAKER_LONGEST_PROBE_SECONDS": "8",  # a receiver that is well again is to be seen within the run
    "LOG_LEVEL": "WARNING",
}
RECEIVER_SECONDS = 30.0
QUIET_SECONDS = 150.0
"""Nothing comes any more after so long, whatever owns a retry. The slowest repair is `reconcile`: each minute it starts
deliveries that are overdue by a minute."""

DRAIN_SECONDS = 300.0
"""After the load, and as long as it took besides: an ordered subscription that falls behind by a part of each minute
has a whole run to catch up on. What still comes then is late, not lost, but a run has an end."""
LATE_REPEATS_SECONDS = 5.0
"""After everything has arrived, for a repeat to come as well: a dead worker's lease ends after 3 s."""


@dataclass(frozen=True)
class Settings:
    """What a run is made of. `actions` replace the seed's timetable; `scale` multiplies the load."""

    seed: int
    seconds: float
    scale: float = 1.0
    workers: int = 2
    roles: tuple[Role, ...] = ROLES
    mutation: str | None = None
    clock_jumps: bool = False
    partitions: bool = False
    """Each process has a network namespace of its own, and they are cut off each other. For an isolated process."""
    full_disks: bool = False
    """Data are on file systems of their own, which are filled. For an isolated process."""
    actions: Sequence[Action] | None = None
    quiet_seconds: float = QUIET_SECONDS
    request_seconds: int = REQUEST_SECONDS
    """Time-out of requests: short, so that a receiver that hangs is met more than once in a run."""
    temporal: RunningTemporal | None = None
    """A Temporal server that runs already, in place of one of the run's own."""

    @property
    def components(self) -> tuple[str, ...]:
        """Components that can be killed: of a Temporal server that runs already, those whose pid files are known."""
        if self.temporal is None or self.temporal.pid_files:
            return COMPONENTS
        return tuple(name for name in COMPONENTS if name != "temporal")


@dataclass(frozen=True)
class Outcome:
    """What a run left. `said_of` is what our own log says of the attempts of what was repeated or retried early."""

    settings: Settings
    ledger: Ledger
    began_at: float
    refused: list[str]
    said_of: dict[str, list[Attempt]]
    startup_seconds: float
    drain_seconds: float
    folder: Path
    machine: dict[str, Any] = field(default_factory=dict)


async def run(settings: Settings, folder: Path | None = None) -> Outcome:
    """The whole run. Its ledger and the logs of all processes stay in the folder."""
    folder = folder or Path(tempfile.mkdtemp(prefix=f"loyalty-webhooks-chaos-{settings.seed}-"))
    folder.mkdir(exist_ok=True, parents=True)
    started = time.monotonic()
    async with AsyncExitStack() as closing:
        network = await closing.enter_async_context(Network()) if settings.partitions else None
        place = LOOPBACK if network is None else await network.join("receiver")
        receiver = await closing.enter_async_context(_receiver(settings, folder, place))
        timeout = {"REQUEST_TIMEOUT_SECONDS": str(settings.request_seconds)}
        environment = {**SETTINGS, **timeout, "CA_BUNDLE": receiver["ca_bundle"]}
        async with (
            chaos_stack(
                folder,
                settings.workers,
                environment,
                mutation=settings.mutation,
                clock_jumps=settings.clock_jumps,
                temporal=settings.temporal,
                network=network,
                full_disks=settings.full_disks,
            ) as stack,
            Emitter(
                stack.store_url,
                stack.api_key,
                folder / "emitted.jsonl",
                address=None if network is None else PLATFORM,
            ) as emitter,
        ):
            await _subscribe(stack, settings.roles, receiver)
            actions = settings.actions
            if actions is None:
                actions = timetable(
                    settings.seed,
                    settings.seconds,
                    jumps=settings.clock_jumps,
                    partitions=settings.partitions,
                    full_disks=settings.full_disks,
                    components=settings.components,
                )
            names = {role.event_name for role in settings.roles}
            emissions = [
                one for one in load(settings.seed, settings.seconds, settings.scale) if one.event_name in names
            ]
            await _begin(receiver)
            began_at = time.monotonic()
            async with asyncio.TaskGroup() as group:
                executing = group.create_task(execute(stack, actions, began_at))
                group.create_task(emitter.emit_all(emissions, began_at))
            loaded_at = time.monotonic()

            def ledger() -> Ledger:
                return Ledger(
                    tuple(emitter.emitted),
                    tuple(read_arrivals((folder / "arrivals.jsonl").read_text().splitlines())),
                    tuple(executing.result()),
                    _paths(settings.roles),
                    tuple(emitter.unavailable),
                )

            await _drain(ledger, settings.quiet_seconds, loaded_at + settings.seconds + DRAIN_SECONDS)
            final = ledger()
            to_explain = (*duplicates(final), *together(final), *early(timed_retries(final)))
            return Outcome(
                settings,
                final,
                began_at,
                emitter.refused,
                await stack.attempts(sorted({one.message_id for one in to_explain})),
                began_at - started,
                time.monotonic() - loaded_at,
                folder,
            )


async def _drain(ledger: Any, quiet_seconds: float, deadline: float) -> None:
    """Until everything has arrived and a repeat would have come too, or nothing comes any more."""
    began_at = time.monotonic()
    while time.monotonic() < deadline:
        now = ledger()
        last = max((one.arrived_at for one in now.arrivals), default=began_at)
        if not lost(now):
            await asyncio.sleep(LATE_REPEATS_SECONDS)
            return
        if time.monotonic() - last > quiet_seconds:
            return
        await asyncio.sleep(1)


def _paths(roles: Sequence[Role]) -> dict[str, tuple[str, ...]]:
    names = {role.event_name for role in roles}
    return {name: tuple(role.path for role in roles if role.event_name == name) for name in names}


@asynccontextmanager
async def _receiver(settings: Settings, folder: Path, place: Place) -> AsyncIterator[dict[str, Any]]:
    command = (*place.enter, sys.executable, "-m", "tests.chaos.receiver")
    arguments = (str(settings.seed), str(settings.seconds), str(folder), place.address)
    output = os.open(folder / "receiver.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = launch((*command, *arguments), os.environ, directory=ROOT, output=output)
    finally:
        os.close(output)
    facts = folder / "receiver.json"
    deadline = time.monotonic() + RECEIVER_SECONDS
    try:
        while not facts.exists():
            assert process.poll() is None, (folder / "receiver.log").read_text()
            assert time.monotonic() < deadline, "the receiver does not listen"
            await asyncio.sleep(0.05)
        yield json.loads(facts.read_text()) | {"host": place.address}
    finally:
        process.kill()
        await ended(process)


async def _begin(receiver: dict[str, Any]) -> None:
    async with httpx.AsyncClient() as client:
        (await client.post(f"http://{receiver['host']}:{receiver['plain']}/begin")).raise_for_status()


async def _subscribe(stack: ChaosStack, roles: Sequence[Role], receiver: dict[str, Any]) -> None:
    async with httpx.AsyncClient(
        base_url=stack.store_url, headers={"X-AUTH-TOKEN": stack.api_key}, timeout=30
    ) as client:
        for role in roles:
            host = receiver["host"]
            secure = "localhost" if host == HOST else host
            root = f"https://{secure}:{receiver['tls']}" if role.tls else f"http://{host}:{receiver['plain']}"
            subscription = {
                "eventName": role.event_name,
                "url": root + role.path,
                "hmacEnabled": True,  # a legacy body has no id, the header has
                "retrySchedule": list(RETRY_SCHEDULE),
                **role.fields,
            }
            answer = await client.post("webhook/subscription", json={"webhookSubscription": subscription})
            assert answer.status_code == httpx.codes.OK, answer.text
