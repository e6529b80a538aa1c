"""Status of a local stack: health, pid and uptime of each component."""

from dataclasses import replace

from temporalio.client import Client

from local.data_directory import DataDirectory
from local.health import Installation, InstallationHealth, ask
from local.ports import HOST, read_remembered
from local.processes import uptime_seconds
from local.stack_file import Stack, read_stack


def running_stack(data: DataDirectory) -> Stack | None:
    """Return the stack that runs on the data directory, or None. Ignores the remains of a killed one."""
    return read_stack(data.stack) if data.is_locked() else None


async def stack_health(data: DataDirectory, stack: Stack) -> InstallationHealth:
    """Check the components of a running stack."""
    worker_port = read_remembered(data.ports).get("worker_health")

    async def temporal() -> Client:
        return await Client.connect(stack.temporal, namespace=stack.namespace, lazy=True)

    health = await ask(
        Installation(
            api=stack.api,
            worker=f"http://{HOST}:{worker_port}" if worker_port else None,
            database=stack.database,
            temporal=temporal,
        )
    )
    pids = stack.pids.model_dump()
    components = tuple(
        replace(component, pid=pids[component.name], uptime_seconds=uptime_seconds(pids[component.name]))
        for component in health.components
    )
    return InstallationHealth(components, health.backlog)
