"""From every turn's figures to medians, ranges, a table, and what we hold ourselves to."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.peers.lineup import EVERYBODY, OURS, PEERS, Contestant

BURSTS = {"burst_1": "1 subscription", "burst_5": "5 subscriptions"}
COLUMNS = ("", "deliveries/s at 1", "at 5", "CPU s per 1,000 at 1", "at 5", "idle p50 ms", "p99")

Figures = Mapping[str, dict[str, Any]]

EVERY_PEER = 1.3
"""How many times any peer's rate ours is to be, where `RATIOS` wants no more."""

RATIOS = {("celery", "burst_1"): 4.0, ("celery", "burst_5"): 6.0, ("textbook", "burst_1"): 70.0}
RATIOS_BY_HTTPS = {
    (name, what): ratio for name, ratio in (("celery", 5.0), ("taskiq", 1.6), ("bare", 0.8)) for what in BURSTS
}
"""The same over HTTPS, where most of a request is TLS."""

SHARE_OF_BOUND = 0.7
"""Of the rate of the bare worker, which keeps no log of attempts."""

MOST_CPU_SECONDS = 1.0
MOST_IDLE_MS = {"p50_ms": 25.0, "p99_ms": 60.0}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "least": min(values), "most": max(values)}


def summary(contestant: Contestant, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians and ranges of one contestant's turns."""
    bursts = {
        what: {key: _spread([one[what][key] for one in turns]) for key in ("per_second", "cpu_seconds_per_1000")}
        | {"repeated": sum(one[what]["repeated"] for one in turns)}
        for what in BURSTS
    }
    idle = {key: _spread([one["idle"][key] for one in turns]) for key in ("p50_ms", "p99_ms")}
    return {"title": contestant.title} | bursts | {"idle": idle}


def table(figures: Figures) -> Table:
    """One line a contestant."""
    grid = Table(title="Medians of the rounds (least–most), at one subscription and at five")
    for column in COLUMNS:
        grid.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for one in EVERYBODY:
        if one.name not in figures:
            continue
        mine = figures[one.name]
        rates = [mine[what]["per_second"] for what in BURSTS]
        cells = [f"{rate['median']:,.0f} ({rate['least']:,.0f}–{rate['most']:,.0f})" for rate in rates]
        cells += [f"{mine[what]['cpu_seconds_per_1000']['median']:.2f}" for what in BURSTS]
        cells += [f"{mine['idle'][key]['median']:.1f}" for key in ("p50_ms", "p99_ms")]
        grid.add_row(one.title, *cells)
    return grid


def verdicts(figures: Figures, *, tls: bool = False) -> list[str]:
    """What is held and what is not, of those who took part."""
    ours, ratios = figures[OURS.name], RATIOS_BY_HTTPS if tls else RATIOS
    lines = []

    def judge(what: str, value: float, holds: bool, wanted: str) -> None:
        lines.append(f"{'holds' if holds else 'FAILS'}  {what}: {value:.2f} ({wanted})")

    def rate(name: str, what: str) -> float:
        return float(figures[name][what]["per_second"]["median"])

    for peer in (one for one in PEERS if one.name in figures):
        for what, words in BURSTS.items():
            least = ratios.get((peer.name, what), SHARE_OF_BOUND if peer.bound else EVERY_PEER)
            ratio = rate(OURS.name, what) / rate(peer.name, what)
            judge(f"times {peer.name}, {words}", ratio, ratio >= least, f"at least {least:g}")
    for what, words in BURSTS.items():
        cpu = ours[what]["cpu_seconds_per_1000"]["median"]
        judge(f"CPU s per 1,000, {words}", cpu, cpu <= MOST_CPU_SECONDS, f"at most {MOST_CPU_SECONDS:g}")
    for key, most in MOST_IDLE_MS.items():
        idle = ours["idle"][key]["median"]
        judge(f"idle {key.removesuffix('_ms')}, ms", idle, idle <= most, f"at most {most:g}")
    return lines
