"""Ours beside what people would use instead: the same work on the same machine in the same run, in turn.

    make peers                                       what peers run on, once (redis-server by apt), then both runs
    python -m bench.peers --tls                      the run over HTTPS, everybody with the same certificate
    python -m bench.peers --only ours taskiq         two of them
    python -m bench.peers --rounds 1 --events 0.2    a look at whether all of it runs

In each round every contestant has one turn, in the same order: it is started from nothing with its servers, emitter and
receiver in processes of their own; a burst of events with one subscription is emitted while it delivers, then one with
five, then, when all has been quiet for fifteen seconds, a hundred single events at 20/s. The figures are medians of the
rounds with their ranges: deliveries a second from the first emit to the last arrival, CPU seconds of all processes for
1,000 deliveries, milliseconds from an event's createdAt to its arrival when idle.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.peers.contest import PEERS_PYTHON, turn
from bench.peers.lineup import EVERYBODY, OURS, Contestant
from bench.peers.servers import redis_server
from bench.peers.table import summary, table, verdicts
from bench.pipeline import RESULTS, machine
from bench.servers import Certificate, certificate_for


async def compare(
    contestants: Sequence[Contestant], rounds: int, share: float, certificate: Certificate | None
) -> dict[str, list[dict[str, Any]]]:
    """Every turn's figures, by contestant."""
    turns: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    columns = (TextColumn("{task.description:<46}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=rounds * len(contestants))
        for number in range(1, rounds + 1):
            for one in contestants:

                def say(doing: str, one: Contestant = one, number: int = number) -> None:
                    progress.update(bar, description=f"round {number}: {one.title}: {doing}")

                try:
                    turns[one.name].append(await turn(one, share, say, certificate))
                except Exception as error:
                    raise RuntimeError(f"{one.title} failed in round {number}") from error
                progress.advance(bar)
    return turns


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[one.name for one in EVERYBODY], metavar="NAME",
                        help=f"of {', '.join(one.name for one in EVERYBODY)}")  # fmt: skip
    parser.add_argument("--events", type=float, default=1.0, metavar="SHARE", help="of the usual number, as in 0.2")
    parser.add_argument("--tls", action="store_true", help="deliver by HTTPS")
    parser.add_argument("--output", type=Path, help="where the figures go, as JSON (bench/results/)")
    arguments = parser.parse_args()
    contestants = [one for one in EVERYBODY if not arguments.only or one.name in arguments.only]
    if not PEERS_PYTHON.exists():
        parser.error("the peers' environment is missing: `make peers` makes it")
    if any("redis" in one.servers for one in contestants):
        redis_server()
    before, began = machine(), time.monotonic()
    with certificate_for(arguments.tls) as certificate:
        turns = asyncio.run(compare(contestants, arguments.rounds, arguments.events, certificate))
    figures = {one.name: summary(one, turns[one.name]) for one in contestants}
    took = round(time.monotonic() - began)
    facts = {"machine": before, "tls": arguments.tls, "rounds": arguments.rounds, "took_seconds": took}
    output = arguments.output or RESULTS / f"peers{'-https' if arguments.tls else ''}.json"
    output.write_text(json.dumps(facts | {"figures": figures, "turns": turns}, indent=1) + "\n")
    console = Console(width=150)
    console.print(table(figures))
    if OURS.name in figures:
        for line in verdicts(figures, tls=arguments.tls):
            console.print(line)
    console.print(f"{arguments.rounds} rounds in {took} s; median turn "
                  f"{statistics.median(one['took_seconds'] for all_ in turns.values() for one in all_):.0f} s; "
                  f"figures in {output}")  # fmt: skip


if __name__ == "__main__":
    main()
