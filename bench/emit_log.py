"""Whether a long log makes emitting slower: `python -m bench.postgres python -m bench.emit_log`.

Two API processes, one on an empty database, one whose log has a million deliveries with their events and attempts; each
is sent the same batches of NDJSON, in turn. Printed and kept in bench/results/: the rates, their medians and the ratio.
Nothing delivers meanwhile.
"""

import argparse
import asyncio
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import aiohttp

from bench.api_process import STORE, RunningApi, add_server_argument, running_api
from bench.intake import lines, measured
from bench.log_data import RARE_EVENT, LogShape, load_log
from bench.pipeline import EMIT_BATCH, EVENT, keep, machine
from domain.events.catalogue import CATALOGUE

IN_FLIGHT = 4
ROUNDS = 5


async def rate(api: RunningApi, batches: int) -> float:
    """Events a second, emitted in batches over a few connections."""
    url = f"{api.root}/api/{STORE}/event/batch"
    headers = {"X-AUTH-TOKEN": api.key, "Content-Type": "application/x-ndjson"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def send(body: bytes) -> None:
            async with session.post(url, data=body) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")

        jobs = [lines([EVENT], EMIT_BATCH) for _ in range(batches)]
        seconds, _, _ = await measured(api.process, jobs, IN_FLIGHT, send)
    return round(batches * EMIT_BATCH / seconds)


async def compare(server: str, deliveries: int, batches: int) -> dict[str, Any]:
    """Rounds in turn."""
    async with AsyncExitStack() as stack:
        empty = await stack.enter_async_context(running_api(server))
        loaded = await stack.enter_async_context(running_api(server))
        await load_log(loaded.database, [name for name in CATALOGUE if name != RARE_EVENT], LogShape(deliveries))
        for api in (empty, loaded):
            await rate(api, 2)  # every process loads what it needs
        rounds = [[await rate(empty, batches), await rate(loaded, batches)] for _ in range(ROUNDS)]
    of_empty, of_loaded = ([one[place] for one in rounds] for place in (0, 1))
    return {
        "deliveries_in_log": deliveries,
        "events_per_round": batches * EMIT_BATCH,
        "empty_per_second": of_empty,
        "with_log_per_second": of_loaded,
        "ratio_of_medians": round(median(of_loaded) / median(of_empty), 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_server_argument(parser)
    parser.add_argument("--deliveries", type=int, default=1_000_000, help="in the long log")
    parser.add_argument("--batches", type=int, default=60, help="of 500 events, a round")
    arguments = parser.parse_args()
    before = machine()
    keep("emit-log", asyncio.run(compare(arguments.server, arguments.deliveries, arguments.batches)), before)


if __name__ == "__main__":
    main()
