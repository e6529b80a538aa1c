"""Local stack: creates, starts and stops its components in order.

API and worker are the ordinary commands, configured by environment variables.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.data_directory import DataDirectory, StackError, begin_log, remove
from local.health import fetch
from local.ports import HOST, PortReservations, PortWish, read_remembered, remember
from local.postgres import PostgresServer, make_database
from local.processes import Component, ProcessIdentity, Supervisor, end, record, recorded
from local.screen import Screen
from local.stack_file import Pids, Secrets, Stack, load_or_create, write_stack
from local.temporal import NAMESPACE, TemporalServer
from storage.access.queries import ensure_administrator, ensure_api_key
from storage.access.stores import create_store
from storage.database import Database
from storage.migrate import migrate

ALLOWED_NETWORKS = "127.0.0.0/8,::1/128"
WORKER_GRACE_SECONDS = "1.5"
"""Grace period of the worker. The whole stack stops within 10 s, and the worker is only the first to stop."""

WORKER_STOP_SECONDS = 3.5
API_STOP_SECONDS = 1.5
STOP_WITHIN_SECONDS = 9.0
"""Time to stop all components. The documentation promises 10 s."""

LEFTOVER_PATIENCE_SECONDS = 5.0
"""Time for the remaining processes of a killed `up` to end. The kernel has signalled them already."""

FOREIGN_PREFIXES = ("TEMPORAL_", "PG")
"""Prefixes of inherited variables to drop. They could direct the clients to another server."""

STORE = "default"
KEY_NAME = "up"


@dataclass(frozen=True)
class Application:
    """API, worker and migrations against the stack's own servers."""

    data: DataDirectory
    secrets: Secrets
    postgres: PostgresServer
    temporal: TemporalServer
    api_port: int
    worker_health_port: int

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    def api(self) -> Component:
        return self._component("api", "API", self.api_url, API_STOP_SECONDS)

    def worker(self) -> Component:
        return self._component("worker", "Worker", f"http://{HOST}:{self.worker_health_port}", WORKER_STOP_SECONDS)

    async def migrate(self) -> None:
        """Migrate the database to head. Raises StackError on failure. In this process, which has most modules already:
        a process of its own would compute for a second."""
        try:
            async with _database(self.postgres.address()) as database:
                await migrate(database)
        except Exception as error:  # whatever a migration may raise
            raise StackError(f"The migrations failed: {error}") from error

    def environment(self) -> dict[str, str]:
        """Return the inherited environment, with the variables that the stack sets."""
        decided = {
            "DATABASE_URL": self.postgres.address(),
            "ENCRYPTION_KEYS": ",".join(self.secrets.encryption_keys),
            "JWT_SECRETS": ",".join(self.secrets.jwt_secrets),
            "API_HOST": HOST,
            "API_PORT": str(self.api_port),
            "WORKER_HEALTH_HOST": HOST,
            "WORKER_HEALTH_PORT": str(self.worker_health_port),
            "TEMPORAL_ADDRESS": self.temporal.address,
            "TEMPORAL_NAMESPACE": NAMESPACE,
            "TEMPORAL_UI_URL": self.temporal.ui,
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "ALLOW_HTTP": "true",
            "ALLOWED_PORTS": "",
            "ALLOWED_NETWORKS": ALLOWED_NETWORKS,
            "SHUTDOWN_GRACE_SECONDS": WORKER_GRACE_SECONDS,
            "PYTHONUNBUFFERED": "1",
        }
        return merged(os.environ, decided)

    def _component(self, name: str, title: str, root: str, stop_seconds: float) -> Component:
        async def ready() -> bool:
            answer = await fetch(f"{root}/readyz")
            return answer is not None and answer.status_code == 200

        return Component(
            name=name,
            title=title,
            command=own_command(name),
            environment=self.environment(),
            directory=Path.cwd(),  # a `.env` with further settings may be there
            log=self.data.log(name),
            ready=ready,
            stop_seconds=stop_seconds,
        )


def own_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of a `loyalty-webhooks` command.

    -P: a `cli.py` in the caller's working directory must not be imported instead.
    """
    return (sys.executable, "-P", "-m", "cli", *arguments)


def merged(inherited: Mapping[str, str], decided: Mapping[str, str]) -> dict[str, str]:
    """Merge `decided` into the inherited environment, without inherited variables that would contradict it."""
    neutral = {
        name: value
        for name, value in inherited.items()
        if name.upper() not in decided and not name.upper().startswith(FOREIGN_PREFIXES)
    }
    return {**neutral, **decided}


async def ensure_access(address: str, secrets: Secrets) -> None:
    """Create the store, the administrator and the API key of the secrets if they are missing. Existing ones stay.
    `address` is the postgresql:// address of the database."""
    async with _database(address) as database, database.transaction() as connection:
        await create_store(connection, STORE, "Default")
        await ensure_administrator(connection, secrets.admin.username, secrets.admin.password)
        await ensure_api_key(connection, KEY_NAME, secrets.api_key)


def _database(address: str) -> Database:
    return Database(address, pool_size=1, name="loyalty-webhooks up")


def wishes(choices: Mapping[str, int | None]) -> tuple[PortWish, ...]:
    """Return the requests for every port of a stack. `choices` by option: a port, 0 for a free one, None: default."""
    return (
        PortWish("api", "the API", choices.get("--api-port"), 8080, "--api-port"),
        PortWish("temporal_ui", "the Temporal UI", choices.get("--ui-port"), 8233, "--ui-port"),
        PortWish("temporal", "Temporal", choices.get("--temporal-port"), 7233, "--temporal-port"),
        PortWish("postgres", "PostgreSQL"),
        PortWish("worker_health", "the worker's health page"),
        PortWish("temporal_http", "Temporal's HTTP API"),
        PortWish("temporal_metrics", "Temporal's metrics"),
        PortWish("receiver", "the demo's receiver"),
    )


def postgres_of(data: DataDirectory, secrets: Secrets, ports: PortReservations) -> PostgresServer:
    """Return the PostgreSQL server of a data directory, on its reserved port."""
    return PostgresServer(
        data.postgres, ports["postgres"], secrets.database_password, data.log("postgres"), data.cluster
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


class LocalStack:
    """A stack on a data directory that the caller has locked. Tells the screen what it does."""

    def __init__(self, data: DataDirectory, choices: Mapping[str, int | None], screen: Screen) -> None:
        self.ports = PortReservations()
        self._data = data
        self._choices = choices
        self._screen = screen
        self._supervisor = Supervisor(screen.note, self._publish)
        self._application: Application | None = None
        """Set while stack.json describes it."""

    async def start(self) -> Stack:
        """Start all components. Return when they are healthy and stack.json is written. Raises StackError if a resource
        is missing or a component does not become healthy; call `stop` then too."""
        data, ports, screen = self._data, self.ports, self._screen
        killed = await clean_up(data)
        if killed:
            screen.note(f"The last run did not stop cleanly; killed its remaining processes: {', '.join(killed)}.")
        secrets = load_or_create(data.secrets, data.postgres)
        remembered = read_remembered(data.ports)
        for wish in wishes(self._choices):
            ports.reserve(wish, remembered.get(wish.name))
        for note in ports.notes:
            screen.note(note)
        remember(data.ports, ports.as_mapping())
        postgres, temporal = postgres_of(data, secrets, ports), temporal_of(data, ports)
        application = Application(data, secrets, postgres, temporal, ports["api"], ports["worker_health"])
        for name in ("postgres", "temporal", "api", "worker"):
            begin_log(data.log(name))
        if not postgres.directory.exists():
            screen.begin("Creating the database, first start only")
            await make_database(postgres.directory, postgres.password, postgres.log)
        screen.begin("Starting PostgreSQL and Temporal")
        await self._supervisor.start(postgres.component(), temporal.component())
        screen.begin("Migrating the database")
        await postgres.ensure_database()
        await application.migrate()
        await ensure_access(postgres.address(), secrets)
        screen.begin("Starting the API and the worker")
        await self._supervisor.start(application.api(), application.worker())
        self._application = application
        self._publish()
        return self._describe(application)

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
        if self._application is not None:
            write_stack(self._data.stack, self._describe(self._application))

    async def stop(self) -> None:
        """Stop the started components in order, within 10 s. Kills a component that does not end in time."""
        self._application = None
        remove(self._data.stack)
        for title in await self._supervisor.stop(time.monotonic() + STOP_WITHIN_SECONDS):
            self._screen.note(f"{title} did not stop in time and was killed.")
        remove(self._data.processes)
        self.ports.release()

    def kill(self) -> None:
        self._supervisor.kill()


async def clean_up(data: DataDirectory) -> list[str]:
    """Remove the remains of a killed `up`: its stack.json and its processes. Return the names of killed processes."""
    remove(data.stack)
    left = [identity for identity in recorded(data.processes) if identity.is_alive()]
    killed = await end(left, LEFTOVER_PATIENCE_SECONDS)
    remove(data.processes)
    return [identity.name for identity in killed]
