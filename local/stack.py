"""Local stack: creates, starts and stops its components in order."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from local.application import Application
from local.bootstrap import STORE, ensure_access
from local.data_directory import DataDirectory
from local.log_files import begin_log
from local.ports import PortReservations, PortWish, read_remembered, remember
from local.postgres import PostgresServer, make_database
from local.processes import ProcessIdentity, end, forget, record, recorded
from local.secrets_file import Secrets, load_or_create
from local.stack_file import Pids, Stack, remove_stack, write_stack
from local.supervisor import Supervisor
from local.temporal import NAMESPACE, TemporalServer

STOP_WITHIN_SECONDS = 9.0
"""Time to stop all components. The documentation promises 10 s."""

LEFTOVER_PATIENCE_SECONDS = 5.0
"""Time for the remaining processes of a killed `up` to end. The kernel has signalled them already."""


@dataclass(frozen=True)
class PortChoices:
    """Requested ports: a port, 0 for a free one, or None for the default."""

    api: int | None = None
    temporal_ui: int | None = None
    temporal: int | None = None


def postgres_of(data: DataDirectory, secrets: Secrets, ports: PortReservations) -> PostgresServer:
    """Return the PostgreSQL server of a data directory, on its reserved port."""
    return PostgresServer(
        directory=data.postgres,
        port=ports["postgres"],
        password=secrets.database_password,
        log=data.log("postgres"),
        cluster=data.cluster,
    )


def temporal_of(data: DataDirectory, ports: PortReservations) -> TemporalServer:
    """Return the Temporal server of a data directory, on its reserved ports."""
    return TemporalServer(
        database=data.temporal_database,
        port=ports["temporal"],
        ui_port=ports["temporal_ui"],
        http_port=ports["temporal_http"],
        metrics_port=ports["temporal_metrics"],
        log=data.log("temporal"),
    )


def wishes(choices: PortChoices) -> tuple[PortWish, ...]:
    """Return the requests for every port of a stack."""
    return (
        PortWish("api", "the API", choices.api, 8080, "--api-port"),
        PortWish("temporal_ui", "the Temporal UI", choices.temporal_ui, 8233, "--ui-port"),
        PortWish("temporal", "Temporal", choices.temporal, 7233, "--temporal-port"),
        PortWish("postgres", "PostgreSQL"),
        PortWish("worker_health", "the worker's health page"),
        PortWish("temporal_http", "Temporal's HTTP API"),
        PortWish("temporal_metrics", "Temporal's metrics"),
        PortWish("receiver", "the demo's receiver"),
    )


class LocalStack:
    """A stack on a data directory that the caller has locked.

    `say` prints one line, `begin` shows the current step.
    """

    def __init__(
        self, data: DataDirectory, choices: PortChoices, say: Callable[[str], None], begin: Callable[[str], None]
    ) -> None:
        self._data = data
        self._choices = choices
        self._say = say
        self._begin = begin
        self._ports = PortReservations()
        self._supervisor = Supervisor(say, self._publish)
        self._described: Callable[[], Stack] | None = None

    async def start(self) -> Stack:
        """Start all components. Return when they are healthy and stack.json is written.

        Raises StackError if a resource is missing or a component does not become healthy; call `stop` then too.
        """
        killed = await clean_up(self._data)
        if killed:
            self._say(f"The last run did not stop cleanly; killed its remaining processes: {', '.join(killed)}.")
        secrets = load_or_create(self._data.secrets, self._data.postgres)
        self._reserve_ports()
        application = self._application(secrets)
        await self._start_servers(application)
        self._begin("Migrating the database")
        await application.postgres.ensure_database()
        await application.migrate()
        await ensure_access(application.postgres.address(), secrets)
        self._begin("Starting the API and the worker")
        for name in ("api", "worker"):
            begin_log(self._data.log(name))
        await self._supervisor.start(application.api(), application.worker())
        self._described = lambda: self._describe(application)
        self._publish()
        return self._described()

    def _reserve_ports(self) -> None:
        remembered = read_remembered(self._data.ports)
        for wish in wishes(self._choices):
            self._ports.reserve(wish, remembered.get(wish.name))
        for note in self._ports.notes:
            self._say(note)
        remember(self._data.ports, self._ports.as_mapping())

    def _application(self, secrets: Secrets) -> Application:
        data, ports = self._data, self._ports
        return Application(
            data=data,
            secrets=secrets,
            postgres=postgres_of(data, secrets, ports),
            temporal=temporal_of(data, ports),
            api_port=ports["api"],
            worker_health_port=ports["worker_health"],
        )

    async def _start_servers(self, application: Application) -> None:
        postgres = application.postgres
        for name in ("postgres", "temporal"):
            begin_log(self._data.log(name))
        if not postgres.directory.exists():
            self._begin("Creating the database, first start only")
            await make_database(postgres.directory, postgres.password, postgres.log)
        self._begin("Starting PostgreSQL and Temporal")
        await self._supervisor.start(postgres.component(), application.temporal.component())

    def _describe(self, application: Application) -> Stack:
        root, secrets = application.api_url, application.secrets
        return Stack(
            api=root,
            panel=f"{root}/admin",
            docs=f"{root}/docs",
            temporal_ui=application.temporal.ui,
            temporal=application.temporal.address,
            namespace=NAMESPACE,
            database=application.postgres.address(),
            admin=secrets.admin,
            api_key=secrets.api_key,
            store=STORE,
            pids=Pids(**self._supervisor.pids()),
        )

    def _publish(self) -> None:
        identities = (ProcessIdentity.of(name, pid) for name, pid in self._supervisor.pids().items())
        record(self._data.processes, filter(None, identities))
        if self._described is not None:
            write_stack(self._data.stack, self._described())

    @property
    def receiver_port(self) -> int:
        """Port reserved for the demo's receiver."""
        return self._ports["receiver"]

    async def stop(self) -> None:
        """Stop the started components in order, within 10 s. Kills a component that does not end in time."""
        self._described = None
        remove_stack(self._data.stack)
        killed = await self._supervisor.stop(time.monotonic() + STOP_WITHIN_SECONDS)
        for title in killed:
            self._say(f"{title} did not stop in time and was killed.")
        forget(self._data.processes)
        self._ports.release()

    def kill(self) -> None:
        """Kill every process now."""
        self._supervisor.kill()


async def clean_up(data: DataDirectory) -> list[str]:
    """Remove the remains of a killed `up`: its stack.json and its processes. Return the names of killed processes."""
    remove_stack(data.stack)
    left = [identity for identity in recorded(data.processes) if identity.is_alive()]
    killed = await end(left, LEFTOVER_PATIENCE_SECONDS)
    forget(data.processes)
    return [identity.name for identity in killed]
