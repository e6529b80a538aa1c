"""The product's own processes on a Temporal server that runs already, started as in production: one command each.

Whatever checkout they are of, its own commands migrate, set up the namespace and make store and API key.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.fernet import Fernet

from bench.servers import free_port, postgres_server, running
from bench.temporal_server import RunningTemporal, delete_namespace
from local.health import fetch
from local.processes import Component

STORE = "default"
HOST = "127.0.0.1"
STOP_SECONDS = 10.0


@asynccontextmanager
async def deployment(
    program: Path, settings: Mapping[str, str], temporal: RunningTemporal, directory: Path
) -> AsyncIterator[dict[str, Any]]:
    """PostgreSQL, an API and a worker of this program; yields what `stack.json` says of a local stack.

    The directory holds data and logs. PostgreSQL's user must be able to enter it.
    """
    namespace = f"bench-{uuid4().hex}"
    async with postgres_server(directory) as (postgres, postgres_pid):
        environment = _environment(postgres.address(), temporal.address, namespace) | dict(settings)
        await _run(program, environment, "migrate")
        await _run(program, environment, "temporal", "setup")
        try:
            await _run(program, environment, "stores", "create", STORE)
            key = await _run(program, environment, "keys", "create", "bench", "--scope", "admin")
            api, worker = (_component(program, environment, directory, name) for name in ("api", "worker"))
            async with running(api) as api_pid, running(worker) as worker_pid:
                pids = {"api": [api_pid], "worker": [worker_pid], "postgres": [postgres_pid]}
                yield {
                    "api": f"http://{HOST}:{environment['API_PORT']}",
                    "api_key": key,
                    "store": STORE,
                    "database": postgres.address(),
                    "temporal": temporal.address,
                    "namespace": namespace,
                    "pids": pids | {"temporal": temporal.pids()},
                }
        finally:
            await delete_namespace(temporal.address, namespace)


def _environment(database: str, temporal: str, namespace: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "PG"))}
    return inherited | {
        "DATABASE_URL": database,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "JWT_SECRETS": uuid4().hex,
        "API_HOST": HOST,
        "API_PORT": str(free_port()),
        "WORKER_HEALTH_HOST": HOST,
        "WORKER_HEALTH_PORT": str(free_port()),
        "TEMPORAL_ADDRESS": temporal,
        "TEMPORAL_NAMESPACE": namespace,
        "TEMPORAL_CONFIG_FILE": os.devnull,
        "ALLOW_HTTP": "true",
        "ALLOWED_PORTS": "",
        "ALLOWED_NETWORKS": "127.0.0.0/8",
    }


async def _run(program: Path, environment: Mapping[str, str], *arguments: str) -> str:
    """Run a command to its end; returns what it printed. Raises RuntimeError with its output if it fails."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complained = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"`{program.name} {' '.join(arguments)}` failed: {complained.decode()}{printed.decode()}")
    return printed.decode().strip()


def _component(program: Path, environment: Mapping[str, str], directory: Path, name: str) -> Component:
    port = environment["API_PORT" if name == "api" else "WORKER_HEALTH_PORT"]
    return Component(
        name=name,
        title=name,
        command=(str(program), name),
        environment=environment,
        directory=directory,
        log=directory / f"{name}.log",
        ready=partial(_is_ready, f"http://{HOST}:{port}/readyz"),
        stop_seconds=STOP_SECONDS,
    )


async def _is_ready(url: str) -> bool:
    answer = await fetch(url)
    return answer is not None and answer.status_code == 200
