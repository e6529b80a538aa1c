"""How fast events are taken: `python -m bench.postgres python -m bench.intake`.

Starts one API process on a fresh database, sends batches of NDJSON and then single events. Events per second, the API's
CPU per event and the time of an answer are printed and kept in bench/results/. Nothing delivers meanwhile. The sender
shares the machine.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table

from bench.api_process import STORE, add_server_argument, running_api, share
from bench.pipeline import keep, machine
from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump


def lines(names: list[str], count: int) -> bytes:
    """NDJSON of samples, each with an id of its own."""
    datas = {name: dump(CATALOGUE[name].sample) for name in names}
    parts = (
        f'{{"eventName":"{name}","eventId":"{uuid4()}","data":{datas[name]}}}'
        for name in (names[index % len(names)] for index in range(count))
    )
    return "\n".join(parts).encode()


async def measured(
    process: psutil.Process, jobs: list[bytes], in_flight: int, send: Callable[[bytes], Awaitable[None]]
) -> tuple[float, float, list[float]]:
    """Send every body; returns seconds, CPU seconds of the API and the sorted times of answers."""
    times: list[float] = []
    waiting = iter(jobs)

    async def sender() -> None:
        for body in waiting:
            began = time.perf_counter()
            await send(body)
            times.append(time.perf_counter() - began)

    before = sum(process.cpu_times()[:2])
    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(in_flight)))
    return time.perf_counter() - began, sum(process.cpu_times()[:2]) - before, sorted(times)


async def run(server: str, batches: int, singles: int) -> dict[str, dict[str, float]]:
    """Both measurements, as a table too."""
    found: dict[str, dict[str, float]] = {}
    table = Table(title="Taking events, one API process")
    for column in ("what", "events/s", "API CPU µs/event", "answer p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "what" else "right")
    async with (
        running_api(server) as api,
        aiohttp.ClientSession(headers={"X-AUTH-TOKEN": api.key}, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):

        def sending(path: str, media_type: str) -> Callable[[bytes], Awaitable[None]]:
            async def send(body: bytes) -> None:
                headers = {"Content-Type": media_type}
                async with session.post(f"{api.root}/api/{STORE}/{path}", data=body, headers=headers) as answer:
                    if answer.status != 202:
                        raise RuntimeError(f"{answer.status}: {await answer.text()}")

            return send

        cases = {
            "NDJSON of 500, CustomerUpdated": (["CustomerUpdated"], 4),
            "NDJSON of 500, the seed's 17 in full": ([name for name, found in CATALOGUE.items() if found.seed], 4),
        }
        for what, (names, in_flight) in cases.items():
            jobs = [lines(names, 500) for _ in range(batches)]
            send = sending("event/batch", "application/x-ndjson")
            row = await measured(api.process, jobs, in_flight, send)
            found[what] = figures(batches * 500, *row)
        data = json.dumps({"event": {"eventName": "CustomerUpdated", "data": CATALOGUE["CustomerUpdated"].sample}})
        for in_flight in (1, 64):
            row = await measured(
                api.process, [data.encode()] * singles, in_flight, sending("event", "application/json")
            )
            found[f"single, {in_flight} in flight"] = figures(singles, *row)
    for what, of in found.items():
        table.add_row(what, *(f"{figure:,}" for figure in of.values()))
    Console(width=120).print(table)
    return found


def figures(events: int, seconds: float, cpu_seconds: float, times: list[float]) -> dict[str, float]:
    """Of one row."""
    rates = {"per_second": round(events / seconds), "cpu_us_per_event": round(cpu_seconds / events * 1e6, 1)}
    return rates | {"p50_ms": round(share(times, 0.5), 2), "p99_ms": round(share(times, 0.99), 2)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_server_argument(parser)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--singles", type=int, default=2000)
    arguments = parser.parse_args()
    before = machine()
    keep("intake", asyncio.run(run(arguments.server, arguments.batches, arguments.singles)), before)


if __name__ == "__main__":
    main()
