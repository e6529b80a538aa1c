"""The first table of docs/performance.md, made of kept results."""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from bench.figures import OLDER

Figures = dict[str, Any]
SLOWEST = ("p50_ms", "p99_ms", "max_ms")

Kept = Mapping[str, tuple[dict[str, Any], bool]]


def _times(found: Figures, *keys: str) -> str:
    """`p50 1.2 ms, p99 34 ms`, of these keys or p50 and p99."""
    named = keys or ("p50_ms", "p99_ms")
    words = {"max_ms": "slowest"}
    return ", ".join(f"{words.get(key, key.removesuffix('_ms'))} {_number(found[key])} ms" for key in named)


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _range(values: list[float], form: str = ",.0f") -> str:
    return f"{format(min(values), form)}–{format(max(values), form)}"


def _ratio(spread: Figures) -> str:
    return f"{spread['median']:.2f}× ({spread['least']:.2f}–{spread['most']:.2f})"


def _burst(found: Figures) -> str:
    rates = [one["per_second"] for one in found["rounds"]]
    cpu = median(one["cpu_seconds_per_1000_total"] for one in found["rounds"])
    off = f"; {found['ratio_to_batches_off']:.0f}× the rate with batches off" if "ratio_to_batches_off" in found else ""
    return f"{median(rates):,.0f}/s (median of {len(rates)}, {_range(rates)}), CPU {cpu:.2f} s{off}"


def _signing(found: Figures) -> str:
    rates = found["per_second_median"]
    return (
        f"{rates['signed']:,}/s signed, {rates['unsigned']:,}/s unsigned: {found['ratio_of_medians']:.2f}×, for two "
        "HMACs and two digests of the body"
    )


def _steady(found: Figures) -> str:
    memory, growth = found["memory_mb"]["at_the_end"], found["memory_growth"]
    grown = ", ".join(f"{name} {growth[name]:+.1%} (to {memory[name]:.0f} MB)" for name in ("worker", "api"))
    return (
        f"{found['per_second']:,} events/s, {found['events']:,} in all: {_times(found, *SLOWEST)}; "
        f"{found['repeated']} repeats; outbox empty {found['seconds_to_drain']:.1f} s after the last emit; "
        f"memory since the first minute: {grown}"
    )


def _waiting(found: Figures) -> str:
    begun, (low, high) = found["set_up"], found["healthy_ratio_range"]
    return (
        f"all retries begun after {begun['handed_on_after_seconds']:.0f} s ({begun['handed_on_per_second']:.0f}/s); "
        f"{found['kib_each']['databases']:.1f} KiB each in both databases. One event a second to a healthy "
        f"subscription meanwhile: {_times(found['healthy_meanwhile'], *SLOWEST)}. Bursts to it afterwards "
        f"{found['healthy_ratio']:.2f}× ({low:.2f}–{high:.2f}) of a stack where nothing waits"
    )


def _emit_log(found: Figures) -> str:
    full, empty = (median(found[f"{name}_per_second"]) for name in ("with_log", "empty"))
    return f"{found['ratio_of_medians']:.2f}× the rate (medians: {full:,.0f} and {empty:,.0f} events/s)"


def _order(found: Figures) -> str:
    rates = found["per_second_median"]
    ordered = [rates[name] for name in ("by customer", "by subscription")]
    of_unordered = " and ".join(f"{one / rates['unordered']:.2f}×" for one in ordered)
    return f"{', '.join(f'{one:,.0f}/s' for one in (rates['unordered'], *ordered))}: {of_unordered} the unordered rate"


def _intake(found: Figures) -> str:
    return "; ".join(f"{name}: {one['per_second']:,.0f} events/s" for name, one in found.items())


def _log_pages(found: Figures) -> str:
    filters, end = list(found["filters"].values()), found["to_the_end"]
    ranges = ", ".join(f"{key} {_range([one[f'{key}_ms'] for one in filters])} ms" for key in ("p50", "p99"))
    return (
        f"{ranges}; part of an id that matches nothing, paged to the end of the log: {end['pages']} pages, "
        f"{end['seconds']:.1f} s, slowest {end['slowest_ms']:.0f} ms "
        "([0019](decisions/0019-unindexed-filters-scan-50000-rows-a-page.md))"
    )


def _panel_pages(found: Figures) -> str:
    return ", ".join(f"{key} {_range([one[f'{key}_ms'] for one in found['pages']])} ms" for key in ("p50", "p95"))


def _expiry(found: Figures) -> str:
    took = found.get("delivered_seconds", found["emitted_seconds"])
    repeats = f", {found['delivered_twice']} repeats" if "delivered_twice" in found else ""
    return f"{took:.1f} s{repeats}; worker memory {found['worker_memory_mb']['growth']:+.0f} MB"


def _expiry_live(found: Figures) -> str:
    return f"{_times(found['live_meanwhile'])}; idle just before: {_times(found['live_idle'])}"


def _fairness(found: Figures) -> str:
    among = ", ".join(f"{key} {found[f'{key}_ms_among']['median']:.0f} ms" for key in ("p50", "p99"))
    return (
        f"{among} (medians of {len(found['pairs'])} pairs); of alone {_ratio(found['p50_ratio'])} and "
        f"{_ratio(found['p99_ratio'])}"
    )


def _retention(found: Figures) -> str:
    return "; ".join(
        f"where {one['day']}: {one['thin_seconds']:.1f} s, its deliveries deleted in {one['clear_seconds']:.0f} s more"
        for one in found["days"]
    )


def _recovery(found: Figures) -> str:
    kills = ", ".join(f"{one['ready_seconds']:.1f} s after {one['wal_mb']} MB" for one in found["kills"])
    return f"{kills}; {found['kb_per_event']:.1f} KB of WAL an event with one delivery"


def _receiver(found: Figures) -> str:
    return f"{found['per_second_median']:,.0f} requests/s on one core"


SCENARIOS: tuple[tuple[str, str, Callable[[Figures], str]], ...] = (
    ("idle latency, emit to arrival: 200 events at 20/s, 15 s after a burst", "idle", _times),
    ("the same over HTTPS", "idle-https", _times),
    ("burst of 10,000 events to one subscription", "burst-1", _burst),
    ("the same over HTTPS", "burst-https", _burst),
    ("burst of 2,000 events to five subscriptions", "burst-5", _burst),
    ("bursts of 10,000 to a signed and to an unsigned subscription, in turn", "signing", _signing),
    ("five minutes at 60 % of the burst rate", "steady", _steady),
    ("10,000 retries that wait, of 1,000 subscriptions, all refused at once", "waiting-10000", _waiting),
    ("emitting beside 1,000,000 deliveries in the log, and to an empty log", "emit-log", _emit_log),
    ("bursts to a subscription unordered, ordered by customer (100), and as a whole, in turn", "order", _order),
    ("intake, the seed's 17 events in full or one of them", "intake", _intake),
    ("pages of the delivery log by each of 22 filters, 1,000,000 deliveries", "log-pages", _log_pages),
    ("each page of the admin panel, 1,000,000 deliveries in the log", "panel-pages", _panel_pages),
    (
        "a day with 100,000 of 1,000,000 transfers due, trigger to the last notice in the log",
        "expiry-1m",
        _expiry,
    ),
    ("the same with a subscription, to the last notice delivered", "expiry-delivering", _expiry),
    ("events of another store, 20/s, while 15,000 notices are delivered", "expiry-live", _expiry_live),
    ("the same while another store emits 15,000 events at once", "fairness-noisy", _fairness),
    ("the same beside 10,000 deliveries held for a dead receiver", "fairness-neighbour", _fairness),
    ("retention of a day of 1,000,000 deliveries", "retention", _retention),
    ("PostgreSQL killed after load, until it answers, by the WAL since its last checkpoint", "recovery", _recovery),
    ("the receiver of these measurements", "receiver", _receiver),
)
"""What is measured, the result that it keeps, and what is said of its figures."""


def scenario_lines(results: Kept) -> list[str]:
    """Render a row of each scenario that was taken."""
    lines = ["| scenario | result | figures | taken |", "| --- | --- | --- | --- |"]
    for words, name, render in SCENARIOS:
        if name in results:
            result, older = results[name]
            lines.append(
                f"| {words} | `{name}` | {render(result['figures'])} | {result['machine']['at'][:10]}{OLDER * older} |"
            )
    return lines
