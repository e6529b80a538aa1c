"""Where a burst's time goes, layer by layer: `python -m bench.layers [--flame FILE.svg]`.

Two bursts of one stack. The first is counted: CPU seconds of each process per 1,000 deliveries. During the second
py-spy samples the worker's Python, and a connection asks PostgreSQL which statements are running; both slow it down, so
only their shares are worth reading. Temporal's SDK, which is Rust, is in the worker's CPU and not in its samples.

py-spy reads another process's memory: it needs to be root, or `sysctl kernel.yama.ptrace_scope=0`.
"""

import argparse
import asyncio
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.pipeline import EVENT, burst_once, keep, machine, warm_up
from bench.stack import Bench, bench_stack

PY_SPY = Path(sys.executable).parent / "py-spy"
SAMPLES_A_SECOND = 250
LOOK_SECONDS = 0.005
STATEMENTS_SHOWN = 12

LAYERS = {
    "TLS and addresses": ("sending/http/tls", "sending/http/address_guard", "ssl.py"),
    "HTTP requests": ("sending/http/", "sending/requests"),
    "bodies and signatures": ("domain/",),
    "statements": ("storage/",),
    "driver and pool": ("asyncpg/", "sqlalchemy/"),
    "workflows": ("workflows/",),
    "Temporal's SDK, in Python": ("temporalio/", "google/protobuf/"),
    "relay": ("relay/",),
    "metrics and logs": ("prometheus_client/", "structlog/", "telemetry/", "logging/"),
    "attempts, beside the above": ("sending/", "activities/"),
    "event loop": ("asyncio/", "uvloop/"),
}
"""Paths of the layers' files; a sample belongs to the layer of its innermost frame that has one."""
ELSEWHERE = "elsewhere"

_FRAME = re.compile(r"\((?P<file>[^()]+):\d+\)$")
_BEFORE_MODULE = re.compile(
    rf"^(?:.*/site-packages/|.*/lib/python3\.\d+/|{re.escape(str(Path(__file__).parents[1]))}/)"
)
_WAITING = re.compile(r";_worker \([^()]*/concurrent/futures/thread\.py:\d+\)$")
_RUNNING = """
SELECT CASE WHEN backend_type = 'client backend' THEN left(ltrim(regexp_replace(query, '\\s+', ' ', 'g')), 90)
    ELSE backend_type END AS what, coalesce(wait_event_type || ': ' || wait_event, 'CPU') AS waits
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND (state = 'active' OR (state IS NULL AND wait_event_type IS DISTINCT FROM 'Activity'))
"""


def layer_of(stack: str) -> str:
    """The layer of one sampled stack, `outermost (file:line);…;innermost (file:line)`."""
    for frame in reversed(stack.split(";")):
        if match := _FRAME.search(frame):
            file = _BEFORE_MODULE.sub("", match["file"])
            for layer, places in LAYERS.items():
                if file.startswith(places):
                    return layer
    return ELSEWHERE


def read_samples(raw: str) -> Counter[str]:
    """Samples of each layer, from what py-spy writes as `raw`: a stack, a blank and its samples in each line.

    Threads of a pool that wait for work, which it takes for busy, and stacks that it could not read are left out.
    """
    layers: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        if stack and not _WAITING.search(stack):
            layers[layer_of(stack)] += int(samples)
    return layers


@asynccontextmanager
async def _sampled(pid: int, output: Path, form: str) -> AsyncIterator[None]:
    """Sample a process within the block; the file is whole after it. Raises RuntimeError with what py-spy says."""
    output.unlink(missing_ok=True)
    flags = ("--nonblocking", "--full-filenames", "--rate", str(SAMPLES_A_SECOND), "--format", form)
    process = await asyncio.create_subprocess_exec(
        *(str(PY_SPY), "record", *flags, "--output", str(output), "--pid", str(pid)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        said, _ = await process.communicate()
    if not output.exists():
        raise RuntimeError(f"py-spy recorded nothing: {said.decode()}")


async def _look_at_statements(address: str, seen: Counter[tuple[str, str]]) -> None:
    """Until cancelled, count what PostgreSQL's processes are found at, and what each waits for."""
    database = await asyncpg.connect(address, server_settings={"application_name": "bench.layers"})
    try:
        running = await database.prepare(_RUNNING)
        while True:
            seen.update((row["what"], row["waits"]) for row in await running.fetch())
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await database.close()


async def _sampled_burst(bench: Bench, events: int, output: Path) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Samples of the worker's layers, and looks at PostgreSQL's statements, during one burst."""
    statements: Counter[tuple[str, str]] = Counter()
    looking = asyncio.create_task(_look_at_statements(bench.facts["database"], statements))
    try:
        async with _sampled(bench.pid("worker"), output, "raw"):
            await burst_once(bench, events, 1)
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    return read_samples(output.read_text()), statements


def _shares(counts: Counter[Any]) -> dict[str, float]:
    """Per cent of each, most first."""
    return {str(name): round(100 * count / counts.total(), 1) for name, count in counts.most_common()}


def _print(title: str, shares: dict[str, float]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("where")
    table.add_column("%", justify="right")
    for name, share in shares.items():
        table.add_row(name, f"{share:.1f}")
    Console(width=120).print(table)


async def run(events: int, flame: Path | None) -> dict[str, Any]:
    """Burst, print the shares; with `flame` one burst more, drawn as a flame graph."""
    async with bench_stack() as bench:
        await bench.subscribe(EVENT, "/layers")
        await warm_up(bench, 1)
        counted = await burst_once(bench, events, 1)
        with tempfile.TemporaryDirectory() as directory:
            layers, statements = await _sampled_burst(bench, events, Path(directory) / "raw")
        if flame is not None:
            async with _sampled(bench.pid("worker"), flame, "flamegraph"):
                await burst_once(bench, events, 1)
    what, waits = Counter[str](), Counter[str]()
    for (statement, wait), count in statements.items():
        what[statement] += count
        waits[wait] += count
    figures = {
        "events": events,
        "per_second": counted["per_second"],
        "cpu_seconds_per_1000": counted["cpu_seconds_per_1000"],
        "worker_python_percent": _shares(layers),
        "postgres_statements_percent": dict(list(_shares(what).items())[:STATEMENTS_SHOWN]),
        "postgres_waits_percent": _shares(waits),
    }
    _print("The worker's Python, by layer", figures["worker_python_percent"])
    _print("PostgreSQL, by statement that was running", figures["postgres_statements_percent"])
    _print("PostgreSQL, by what running statements wait for", figures["postgres_waits_percent"])
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--flame", type=Path, help="Write a flame graph of the worker there, from one burst more")
    arguments = parser.parse_args()
    before = machine()
    keep("layers", asyncio.run(run(arguments.events, arguments.flame)), before)


if __name__ == "__main__":
    main()
