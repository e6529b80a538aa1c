"""How long PostgreSQL needs after a kill, by the WAL since its last checkpoint: `python -m bench.recovery [--help]`.

After a checkpoint, events with one delivery each are emitted and delivered until so much WAL is written. Then
PostgreSQL is killed, and started again by `up`; it is ready when it answers a query. Printed, and kept in
bench/results/.
"""

import argparse
import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Any

import asyncpg

from bench.pipeline import EMIT_BATCH, EVENT, burst_once, keep, machine, warm_up
from bench.stack import Bench, bench_stack

WAL_MB = (32, 100, 256)
READY_SECONDS = 60.0
POLL_SECONDS = 0.02
CHECKPOINT = "SELECT CAST(redo_lsn AS text) FROM pg_control_checkpoint()"
WRITTEN = "SELECT pg_current_wal_lsn() - CAST($1 AS text)::pg_lsn"
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def _answers(address: str) -> bool:
    with suppress(*AWAY):
        connection = await asyncpg.connect(address, timeout=1)
        try:
            return bool(await connection.fetchval("SELECT true"))
        finally:
            connection.terminate()
    return False


async def recovery(bench: Bench, least_mb: int) -> dict[str, Any]:
    """One kill after at least so much WAL."""
    address = bench.facts["database"]
    connection = await asyncpg.connect(address)
    await connection.execute("CHECKPOINT")
    checkpoint, events, written = await connection.fetchval(CHECKPOINT), 0, 0
    while written < least_mb * 2**20:
        await burst_once(bench, EMIT_BATCH, 1)
        events += EMIT_BATCH
        written = int(await connection.fetchval(WRITTEN, checkpoint))
        if await connection.fetchval(CHECKPOINT) != checkpoint:
            raise SystemExit(f"A checkpoint began before {least_mb} MB were written; take less with --mb.")
    connection.terminate()
    os.kill(bench.pid("postgres"), signal.SIGKILL)
    began = time.monotonic()
    async with asyncio.timeout(READY_SECONDS):
        while not await _answers(address):
            await asyncio.sleep(POLL_SECONDS)
    return {"wal_mb": round(written / 2**20), "events": events, "ready_seconds": round(time.monotonic() - began, 2)}


async def measured(amounts: list[int]) -> dict[str, Any]:
    """A kill after each of these amounts of WAL, in MB, on a stack of its own."""
    kills = []
    for least_mb in amounts:
        async with bench_stack() as bench:
            await bench.subscribe(EVENT, "/burst")
            await warm_up(bench, 1)
            kills.append(await recovery(bench, least_mb))
    return {"kills": kills, "kb_per_event": round(kills[-1]["wal_mb"] * 1024 / kills[-1]["events"], 1)}


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, nargs="+", default=[*WAL_MB], help="of WAL before each kill (32 100 256)")
    chosen, before = parser.parse_args(), machine()
    keep("recovery", asyncio.run(measured(chosen.mb)), before)


if __name__ == "__main__":
    main()
