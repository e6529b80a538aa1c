"""API, worker and migrations in the local stack: the ordinary commands, configured by environment variables."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.component import Component, ending, run_to_end
from local.data_directory import DataDirectory
from local.errors import StackError
from local.http_probe import fetch
from local.log_files import begin_log, tail
from local.ports import HOST
from local.postgres import PostgresServer
from local.secrets_file import Secrets
from local.temporal import NAMESPACE, TemporalServer

ALLOWED_NETWORKS = "127.0.0.0/8,::1/128"
WORKER_GRACE_SECONDS = "1.5"
"""Grace period of the worker. The whole stack stops within 10 s, and the worker is only the first to stop."""

WORKER_STOP_SECONDS = 3.5
API_STOP_SECONDS = 1.5

FOREIGN_PREFIXES = ("TEMPORAL_", "PG")
"""Prefixes of inherited variables to drop. They could direct the clients to another server."""


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
        """Root URL of the API."""
        return f"http://{HOST}:{self.api_port}"

    def api(self) -> Component:
        """Return the API as a component."""
        return self._component("api", "API", self.api_url, API_STOP_SECONDS)

    def worker(self) -> Component:
        """Return the worker as a component."""
        return self._component("worker", "Worker", f"http://{HOST}:{self.worker_health_port}", WORKER_STOP_SECONDS)

    async def migrate(self) -> None:
        """Migrate the database to head. Raises StackError with the end of the log on failure."""
        log = self.data.log("migrate")
        begin_log(log)
        status = await run_to_end(own_command("migrate"), self.environment(), directory=Path.cwd(), log=log)
        if status != 0:
            raise StackError(f"The migrations failed: `migrate` {ending(status)}. {log} says:\n{tail(log)}")

    def environment(self) -> dict[str, str]:
        """Return the inherited environment, with the variables that the stack sets."""
        return merged(
            os.environ,
            {
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
            },
        )

    def _component(self, name: str, title: str, root: str, stop_seconds: float) -> Component:
        async def ready() -> bool:
            answer = await fetch(f"{root}/readyz")
            return answer is not None and answer.status == 200

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
