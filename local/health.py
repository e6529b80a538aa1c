"""Health of an installation: components, backlog, overdue deliveries; for a local stack, pids and uptimes too."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError

from local.data_directory import DataDirectory
from local.ports import HOST, read_remembered
from local.processes import uptime_seconds
from local.stack_file import Stack
from storage.database import Database
from storage.deliveries.retries import count_overdue
from storage.events.outbox import EventBacklog, backlog
from storage.operations.workers import WorkerProcess, live_workers

PROBE_SECONDS = 2.5
"""Timeout of a probe. /readyz itself waits up to 2 s for its dependencies."""

ASK_SECONDS = 5.0
"""Timeout of a check. Allows for a network and a busy database."""

WORKER_FACTS = {"host", "pid", "started_at"}

COUNTED_EVENTS = 10_000
"""Maximum counted events of the backlog. Counting that many index entries takes milliseconds."""


async def fetch(url: str, timeout_seconds: float = PROBE_SECONDS) -> httpx.Response | None:
    """GET the address, ignoring proxy variables. Return None if no response arrives in time."""
    tls = url.startswith("https:")  # loading the certificate authorities takes 20 ms
    try:
        async with asyncio.timeout(timeout_seconds), httpx.AsyncClient(trust_env=False, verify=tls) as client:
            return await client.get(url, timeout=None, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
        return None


@dataclass(frozen=True)
class ComponentHealth:
    """Health of one component. `reason` explains `ready=False`. `pid` and `uptime_seconds`: local stack only."""

    name: str
    ready: bool
    address: str
    reason: str | None = None
    pid: int | None = None
    uptime_seconds: float | None = None


@dataclass(frozen=True)
class InstallationHealth:
    """Health of all components, and facts of the database, each None if it could not be reached."""

    components: tuple[ComponentHealth, ...]
    backlog: EventBacklog | None
    workers: Sequence[WorkerProcess] | None
    overdue: int | None
    """Number of overdue deliveries, counted up to `OVERDUE_COUNTED`."""

    @property
    def healthy(self) -> bool:
        return all(component.ready for component in self.components)

    def facts(self) -> dict[str, Any]:
        """Return the health for JSON, with the keys of stack.json in snake case."""
        components = [asdict(component) for component in self.components]
        waiting, workers = self.backlog, self.workers
        return {
            "healthy": self.healthy,
            "components": {component.pop("name"): component for component in components},
            "workers": workers and [one.model_dump(mode="json", include=WORKER_FACTS) for one in workers],
            "backlog": waiting and {"events": waiting.events, "oldest_seconds": round(waiting.oldest_seconds, 3)},
            "overdue_deliveries": self.overdue,
        }


async def stack_health(data: DataDirectory, stack: Stack) -> InstallationHealth:
    """Check the components of a running stack."""
    worker_port = read_remembered(data.ports).get("worker_health")
    worker = f"http://{HOST}:{worker_port}" if worker_port else None
    health = await ask(
        stack.api, worker, stack.database, lambda: Client.connect(stack.temporal, namespace=stack.namespace, lazy=True)
    )
    pids = stack.pids.model_dump()
    components = tuple(
        replace(component, pid=pids[component.name], uptime_seconds=uptime_seconds(pids[component.name]))
        for component in health.components
    )
    return replace(health, components=components)


async def ask(
    api: str, worker: str | None, database: str, temporal: Callable[[], Awaitable[Client]]
) -> InstallationHealth:
    """Check all components concurrently. `api` and `worker` are root URLs; with None, the worker is ready if the
    database lists a live one. `database` is a postgresql:// address."""
    asked = [_ask_temporal(temporal), _ask_process("api", api), *([_ask_process("worker", worker)] if worker else ())]
    (of_database, waiting, workers, overdue), *others = await asyncio.gather(_ask_database(database), *asked)
    if worker is None:
        others.append(ComponentHealth("worker", bool(workers), "?", _why_no_worker(workers)))
    return InstallationHealth((of_database, *others), waiting, workers, overdue)


def _why_no_worker(workers: Sequence[WorkerProcess] | None) -> str | None:
    if workers is None:
        return "unknown: PostgreSQL, which lists live workers, cannot be asked, and WORKER_HEALTH_PORT is not set"
    return None if workers else "PostgreSQL lists no live worker, and WORKER_HEALTH_PORT is not set"


async def _ask_database(
    address: str,
) -> tuple[ComponentHealth, EventBacklog | None, Sequence[WorkerProcess] | None, int | None]:
    parts = urlsplit(address)
    shown = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    async with Database(address, pool_size=1, name="status") as database:
        try:
            async with asyncio.timeout(ASK_SECONDS), database.transaction() as connection:
                waiting, workers = await backlog(connection, limit=COUNTED_EVENTS), await live_workers(connection)
                overdue = await count_overdue(connection)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            return ComponentHealth("postgres", False, shown, _reason(error)), None, None, None
    return ComponentHealth("postgres", True, shown), waiting, workers, overdue


async def _ask_temporal(connect: Callable[[], Awaitable[Client]]) -> ComponentHealth:
    address = "?"
    try:
        client = await connect()
        address = client.service_client.config.target_host
        serving = await client.service_client.check_health(timeout=timedelta(seconds=ASK_SECONDS))
    except (RPCError, RuntimeError, OSError) as error:  # RuntimeError: the first connection of a lazy client failed
        reason = "cannot be reached" if isinstance(error, RuntimeError) else _reason(error)
        return ComponentHealth("temporal", False, address, reason)
    return ComponentHealth("temporal", serving, address, None if serving else "does not serve requests")


async def _ask_process(name: str, root: str) -> ComponentHealth:
    shown = root.partition("://")[2]
    answer = await fetch(f"{root}/readyz", ASK_SECONDS)
    if answer is None:
        return ComponentHealth(name, False, shown, "does not answer")
    ready = answer.status_code == 200
    return ComponentHealth(name, ready, shown, None if ready else answer.text[:500])


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"gave no answer within {ASK_SECONDS:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "cannot be reached: nothing listens there"
    original = getattr(error, "orig", None) or error
    return (str(original) or type(original).__name__).splitlines()[0]
