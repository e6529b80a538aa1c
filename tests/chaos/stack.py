"""The whole stack for a run: the parts of `loyalty-webhooks up`, with several workers that can be rolled, and misused.

PostgreSQL, Temporal and the API are kept running by the product's own supervisor; workers by `WorkerPool`, since a
supervised component cannot be replaced by another. `mutation` starts API and workers with a defect (`mutations.py`).
"""

import asyncio
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen
from uuid import uuid4

import asyncpg
import psutil

from bench.servers import listens
from bench.temporal_server import RunningTemporal, delete_namespace
from local.data_directory import DataDirectory
from local.health import fetch
from local.ports import HOST, PortReservations, PortWish
from local.postgres import DATABASE, PostgresServer, make_database
from local.processes import Component, Supervisor, ended, run_to_end, spawn
from local.stack import (
    ALLOWED_NETWORKS,
    STORE,
    WORKER_STOP_SECONDS,
    Application,
    ensure_access,
    own_command,
    postgres_of,
    temporal_of,
)
from local.stack_file import load_or_create
from local.temporal import NAMESPACE, TemporalServer
from temporal.visibility import SEARCH_ATTRIBUTES
from tests.chaos.clock import Clock
from tests.chaos.disks import Disk
from tests.chaos.ledger import Attempt
from tests.chaos.network import LOOPBACK, SUBNET, Network, Place
from tests.house import ROOT

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
ROLL_SECONDS = 60.0
DISK_FULL = {"postgres": "No space left on device", "temporal": "database or disk is full"}
"""What a server logs of a write that failed."""
RESTART_SECONDS = 0.1
"""As the product's supervisor."""

WORKER_GRACE_SECONDS = 6
"""Longer than a request may take, so that a worker that is rolled finishes what it has under way."""

ATTEMPTS = """
SELECT message_id, coalesce(failure, CASE WHEN outcome_at IS NULL THEN 'none' ELSE 'delivered' END) AS outcome,
    worker_id, extract(epoch FROM outcome_at - clock_timestamp())::float8 AS written_seconds
FROM attempt WHERE message_id = ANY($1::uuid[]) ORDER BY message_id, number
"""
"""`written_seconds`: from now, so negative."""

DATABASE_CLIENTS = "loyalty-webhooks%"


@dataclass(frozen=True)
class ChaosApplication(Application):
    """The product's processes with settings of the run, and a defect if one is asked for."""

    settings: Mapping[str, str] = field(default_factory=dict)
    mutation: str | None = None
    place: Place = LOOPBACK
    """Where the API runs."""
    worker_place: Place = LOOPBACK

    @property
    def api_url(self) -> str:
        """The root of the API."""
        return f"http://{self.place.address}:{self.api_port}"

    def environment(self) -> dict[str, str]:
        """As in `up`, and the settings of the run."""
        hosts = {"API_HOST": self.place.address, "WORKER_HEALTH_HOST": self.worker_place.address}
        return (
            super().environment() | hosts | {"ALLOWED_NETWORKS": f"{ALLOWED_NETWORKS},{SUBNET}"} | dict(self.settings)
        )

    def api(self) -> Component:
        """The API as a component."""
        return self.place.put(self._mutated(super().api()))

    def worker(self) -> Component:
        """A worker as a component."""
        health = f"http://{self.worker_place.address}:{self.worker_health_port}"
        made = self._component("worker", "Worker", health, WORKER_STOP_SECONDS)
        return self.worker_place.put(self._mutated(made))

    def _mutated(self, component: Component) -> Component:
        component = replace(component, directory=ROOT)
        if self.mutation is None:
            return component
        command = (sys.executable, "-m", "tests.chaos.mutations", self.mutation, component.name)
        return replace(component, command=command)


@dataclass(frozen=True)
class ChaosPostgres(PostgresServer):
    """PostgreSQL at a place of its own."""

    place: Place = LOOPBACK

    def address(self, database: str = DATABASE) -> str:
        """The postgresql:// address with the password."""
        return super().address(database).replace(HOST, self.place.address)

    def component(self) -> Component:
        """The server as a component."""
        return self.place.put(super().component())

    async def make(self) -> None:
        """Create the database cluster, and let in whoever is on the network of the run."""
        await make_database(self.directory, self.password, self.log)
        with (self.directory / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {SUBNET} scram-sha-256\n")


@dataclass(frozen=True)
class ChaosTemporal(TemporalServer):
    """Temporal at a place of its own."""

    place: Place = LOOPBACK

    @property
    def address(self) -> str:
        """Address of the gRPC service, host:port."""
        return f"{self.place.address}:{self.port}"

    def component(self) -> Component:
        """The server as a component."""
        return self.place.put(super().component())

    async def ready(self) -> bool:
        """Whether the server responds and knows our search attributes."""
        root = f"http://{self.place.address}:{self.http_port}"
        answer = await fetch(f"{root}/api/v1/namespaces/{NAMESPACE}/search-attributes")
        return answer is not None and all(name.encode() in answer.content for name in SEARCH_ATTRIBUTES)


class TemporalProcesses:
    """The processes of a Temporal server that runs already, each started again by what keeps it running."""

    def __init__(self, temporal: RunningTemporal) -> None:
        self._files = itertools.cycle(temporal.pid_files)
        self._chosen: dict[int, Path] = {}
        self._address = temporal.address

    def next(self) -> int:
        """Return the process of the next pid file: each gets its turn. Raises OSError or ValueError for none."""
        file = next(self._files)
        pid = int(file.read_text())
        self._chosen[pid] = file
        return pid

    async def replaced(self, killed: int) -> bool:
        """Return True if another process works in the place of one that was killed, and the server can be reached."""
        try:
            pid = int(self._chosen[killed].read_text())
        except (OSError, ValueError):
            return False
        host, _, port = self._address.rpartition(":")
        return pid != killed and await listens(int(port), host)


class WorkerPool:
    """A number of workers, each started again when it dies. One of them has a clock that can be set wrong."""

    def __init__(
        self, application: ChaosApplication, ports: PortReservations, clock: Clock, network: Network | None
    ) -> None:
        self._application = application
        self._ports = ports
        self._clock = clock
        self._network = network
        self._numbers = itertools.count(1)
        self._kept: list[tuple[Component, Popen[bytes], asyncio.Task[None]]] = []
        self._replacements: dict[int, Component] = {}

    async def add(self, *, in_place_of: str = "") -> Component:
        """Start one more and wait until it works. `in_place_of`: the name of one that is to end then."""
        name = f"worker-{next(self._numbers)}"
        port = self._ports.reserve(PortWish(name, "a worker's health page"), None)
        place = LOOPBACK if self._network is None else await self._network.join(name)
        made = replace(self._application, worker_health_port=port, worker_place=place).worker()
        clock = self._clock.environment(name, in_place_of=in_place_of)
        environment = {**made.environment, **clock, "LOG_LEVEL": "INFO"}  # it logs its id
        component = replace(made, name=name, log=self._application.data.log(name), environment=environment)
        self._start(component)
        deadline = time.monotonic() + READY_SECONDS
        while not await component.ready():
            assert time.monotonic() < deadline, f"{name} does not work; see {component.log}"
            await asyncio.sleep(0.1)
        return component

    def _start(self, component: Component) -> None:
        process = spawn(component)
        self._kept.append((component, process, asyncio.create_task(self._keep(component, process))))

    async def _keep(self, component: Component, process: "Popen[bytes]") -> None:
        await ended(process)
        await asyncio.sleep(RESTART_SECONDS)
        self._kept = [kept for kept in self._kept if kept[1] is not process]
        self._start(component)
        self._replacements[process.pid] = component

    def pids(self) -> list[int]:
        """Of the workers, the one that runs the longest first."""
        return [process.pid for _, process, _ in self._kept]

    async def replaced(self, killed: int) -> bool:
        """Whether another process works in the place of one that was killed."""
        component = self._replacements.get(killed)
        return component is not None and await component.ready()

    def name_of(self, pid: int) -> str:
        """The worker's name."""
        return next(component.name for component, process, _ in self._kept if process.pid == pid)

    async def roll(self) -> float:
        """Start a new one, then ask the oldest to end; how many seconds that took it."""
        oldest = self._kept[0][0].name
        added = await self.add(in_place_of=oldest)
        ending = next(one for one in self._kept if one[0].name == oldest)
        self._kept.remove(ending)
        component, process, keeping = ending
        keeping.cancel()
        # Killed meanwhile, on a slow machine, it has the new one in its place.
        killed = [pid for pid, one in self._replacements.items() if one is component]
        self._replacements |= dict.fromkeys([process.pid, *killed], added)
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if not await ended(process, asked_at + ROLL_SECONDS):
            process.kill()
            raise AssertionError(f"a worker asked to end had not within {ROLL_SECONDS} s")
        return time.monotonic() - asked_at

    async def stop(self) -> None:
        """End all."""
        for _, process, keeping in self._kept:
            keeping.cancel()
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for _, process, _ in self._kept:
            if not await ended(process, time.monotonic() + STOP_SECONDS):
                process.kill()
                process.wait()


@dataclass
class ChaosStack:
    """A running stack and what can be done to it."""

    application: ChaosApplication
    supervisor: Supervisor
    workers: WorkerPool
    clock: Clock
    api_key: str
    temporal: TemporalProcesses | None = None
    """Of a server that the supervisor does not keep running."""
    network: Network | None = None
    disks: Mapping[str, Disk] = field(default_factory=dict)
    """By the component whose data are on it."""

    @property
    def store_url(self) -> str:
        """Below which the store's calls are."""
        return f"{self.application.api_url}/api/{STORE}/"

    async def process(self, target: str) -> psutil.Process:
        """That of a component, once it runs; of the workers the one that runs the longest: each gets its turn."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with suppress(psutil.NoSuchProcess, IndexError, OSError, ValueError):
                process = psutil.Process(self._pid(target))
                if process.status() != psutil.STATUS_ZOMBIE:
                    return process
            assert time.monotonic() < deadline, f"{target} does not run"
            await asyncio.sleep(0.05)

    def _pid(self, target: str) -> int:
        if target == "worker":
            return self.workers.pids()[0]
        if target == "temporal" and self.temporal is not None:
            return self.temporal.next()
        return self.supervisor.pids()[target]

    async def signal(self, target: str, number: signal.Signals) -> list[int]:
        """Signal a component's process and its children (PostgreSQL works in those); their pids."""
        process = await self.process(target)
        pids = [process.pid]
        if number is not signal.SIGKILL:
            pids += [child.pid for child in process.children(recursive=True)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    async def ends(self, target: str) -> tuple[str, str | None]:
        """The names, in the network, of a process and of the other one if the target is a pair (`worker/postgres`)."""
        name, _, other = target.partition("/")
        if name == "worker":
            name = self.workers.name_of((await self.process("worker")).pid)
        return name, other or None

    async def replaced(self, target: str, killed: int) -> None:
        """Return when another process has taken the place of one that was killed, and is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while not await self._replaced(target, killed):
            assert time.monotonic() < deadline, f"{target} does not come back"
            await asyncio.sleep(0.05)

    async def _replaced(self, target: str, killed: int) -> bool:
        if target == "worker":
            return await self.workers.replaced(killed)
        if target == "temporal" and self.temporal is not None:
            return await self.temporal.replaced(killed)
        component = {
            "api": self.application.api,
            "postgres": self.application.postgres.component,
            "temporal": self.application.temporal.component,
        }[target]
        return self.supervisor.pids()[target] != killed and await component().ready()

    def failed_writes(self, target: str) -> int:
        """How many writes PostgreSQL or Temporal has logged that failed because the disk was full."""
        return self.application.data.log(target).read_text(errors="replace").count(DISK_FULL[target])

    async def serving(self, target: str) -> None:
        """Return when PostgreSQL or Temporal is ready."""
        servers = {"postgres": self.application.postgres, "temporal": self.application.temporal}
        deadline = time.monotonic() + READY_SECONDS
        while not await servers[target].ready():
            assert time.monotonic() < deadline, f"{target} does not come back"
            await asyncio.sleep(0.1)

    async def _connected(self) -> asyncpg.Connection:
        """A connection of our own, once the database takes one."""
        await self.serving("postgres")
        return await asyncpg.connect(self.application.postgres.address(), timeout=READY_SECONDS)

    async def drop_connections(self) -> int:
        """End every connection of API and workers to the database; how many."""
        connection = await self._connected()
        try:
            ended_now = await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1",
                DATABASE_CLIENTS,
            )
            return len(ended_now)
        finally:
            await connection.close(timeout=5)

    async def attempts(self, message_ids: list[str]) -> dict[str, list[Attempt]]:
        """Message id -> what our log says of each of its attempts: to explain what the ledger found, never to find."""
        if not message_ids:
            return {}
        connection = await self._connected()
        try:
            rows = await connection.fetch(ATTEMPTS, message_ids)
        finally:
            await connection.close(timeout=5)
        logs = self.application.data.log("worker-1").parent.glob("worker-*.log")
        workers = {one: log.stem for log in logs for one in re.findall(r"worker ([0-9a-f-]{36}) on ", log.read_text())}
        found: dict[str, list[Attempt]] = {}
        now = time.monotonic()
        for message_id, outcome, worker_id, seconds in rows:
            attempt = Attempt(outcome, workers.get(str(worker_id), ""), None if seconds is None else now + seconds)
            found.setdefault(str(message_id), []).append(attempt)
        return found


@asynccontextmanager
async def chaos_stack(
    folder: Path,
    workers: int,
    settings: Mapping[str, str],
    *,
    mutation: str | None = None,
    clock_jumps: bool = False,
    temporal: RunningTemporal | None = None,
    network: Network | None = None,
    full_disks: bool = False,
) -> AsyncIterator[ChaosStack]:
    """Everything up and healthy on a data directory in the folder; all of it ended at the end.

    On a Temporal server that runs already, the run has a namespace of its own, deleted at the end. In a network, each
    process has a place of its own. `full_disks`: data are on file systems that can be filled.
    """
    namespace = f"chaos-{uuid4().hex}"
    if temporal is not None:
        settings = {**settings, "TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_NAMESPACE": namespace}
    data = DataDirectory.at(folder / "stack")
    data.create()
    disks = {}
    if full_disks:
        disks = {name: Disk(data.root / f"disk-{name}") for name in ("postgres", "temporal")}
        data.postgres = disks["postgres"].folder / "data"
        data.temporal_database = disks["temporal"].folder / "temporal.db"
    ports = PortReservations()
    joined = ("api", "postgres", "temporal")
    places = dict.fromkeys(joined, LOOPBACK) if network is None else {name: await network.join(name) for name in joined}
    application = _application(data, ports, settings, mutation, places)
    said = (folder / "supervisor.log").open("w", buffering=1)
    supervisor = Supervisor(lambda line: print(line, file=said), lambda: None)
    clock = Clock(folder, jumps=clock_jumps)
    pool = WorkerPool(application, ports, clock, network)
    try:
        for disk in disks.values():
            await disk.mount()
        await application.postgres.make()
        await supervisor.start(application.postgres.component())
        if temporal is None:
            await supervisor.start(application.temporal.component())
        else:
            await _set_up_namespace(application)
        await application.postgres.ensure_database()
        await application.migrate()
        secrets = load_or_create(data.secrets, data.postgres)
        await ensure_access(application.postgres.address(), secrets)
        await supervisor.start(application.api())
        for _ in range(workers):
            await pool.add()
        processes = None if temporal is None else TemporalProcesses(temporal)
        yield ChaosStack(application, supervisor, pool, clock, secrets.api_key, processes, network, disks)
    finally:
        await pool.stop()
        await supervisor.stop(time.monotonic() + STOP_SECONDS)
        if temporal is not None:
            await delete_namespace(temporal.address, namespace)
        for disk in disks.values():
            await disk.unmount()
        ports.release()
        said.close()


async def _set_up_namespace(application: ChaosApplication) -> None:
    log = application.data.log("temporal-setup")
    command = own_command("temporal", "setup")
    status = await run_to_end(command, application.environment(), directory=ROOT, log=log)
    assert status == 0, log.read_text()


def _application(
    data: DataDirectory,
    ports: PortReservations,
    settings: Mapping[str, str],
    mutation: str | None,
    places: Mapping[str, Place],
) -> ChaosApplication:
    secrets = load_or_create(data.secrets, data.postgres)
    for name in ("api", "postgres", "temporal", "temporal_ui", "temporal_http", "temporal_metrics"):
        ports.reserve(PortWish(name, name), None)
    return ChaosApplication(
        data=data,
        secrets=secrets,
        postgres=ChaosPostgres(**vars(postgres_of(data, secrets, ports)), place=places["postgres"]),
        temporal=ChaosTemporal(**vars(temporal_of(data, ports)), place=places["temporal"]),
        api_port=ports["api"],
        worker_health_port=0,
        settings={"SHUTDOWN_GRACE_SECONDS": str(WORKER_GRACE_SECONDS), **settings},
        mutation=mutation,
        place=places["api"],
    )
