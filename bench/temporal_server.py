"""A Temporal server that runs already, named by the environment, in place of the development server of a stack.

    TEMPORAL_ADDRESS=127.0.0.1:7233 TEMPORAL_PID_FILES="FOLDER/a.pid FOLDER/b.pid" python -m bench.…

TEMPORAL_PID_FILES names a file for each process of the server, its database included, that holds the process id. They
are what CPU time is taken from, and what chaos runs kill; without them neither is done. Each stack gets a namespace of
its own, which is deleted at the end.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

ADDRESS_VARIABLE = "TEMPORAL_ADDRESS"
PID_FILES_VARIABLE = "TEMPORAL_PID_FILES"


@dataclass(frozen=True)
class RunningTemporal:
    """The address (host:port) and the pid files of a Temporal server whose processes something else keeps running."""

    address: str
    pid_files: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the server that the environment names, or None."""
        address = os.environ.get(ADDRESS_VARIABLE)
        if not address:
            return None
        return cls(address, tuple(Path(name).absolute() for name in os.environ.get(PID_FILES_VARIABLE, "").split()))

    def pids(self) -> list[int]:
        """Return the process ids of the moment. Raises OSError or ValueError for a file without one."""
        return [int(path.read_text()) for path in self.pid_files]


async def delete_namespace(address: str, namespace: str) -> None:
    """Delete a namespace and its workflows, whose schedules would otherwise go on. Raises RuntimeError."""
    client = await Client.connect(address)
    try:
        await client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace=namespace))
    except RPCError as error:
        raise RuntimeError(f"namespace {namespace} was not deleted: {error.message}") from error
