"""The pages and parts of pages that are made of kept results."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import kept, origin
from bench.floors import FLOORS, Measured
from bench.plots import placed
from bench.seam import WAYS
from docs.scenarios import scenario_lines
from tests.attack.__main__ import HEALTHZ_MS, was_busy
from tests.chaos.findings import STRICT

DOCS = Path(__file__).parent
LEAST_SHARE = 1
"""Percent of samples that a row of the layers has at least."""

WHOLE_FROM = 100
"""Figures from here on have no decimal places."""

FAIRNESS = {
    "fairness-noisy": "another store that emits 15,000 events at once (`noisy`)",
    "fairness-backlog": "15,000 events of another store that wait when the worker comes back (`backlog`)",
    "fairness-neighbour": "10,000 deliveries held for a dead receiver (`neighbour`)",
}
WORST_SHOWN = 5
"""Hostile receivers on the page of attacks, those that delay their neighbour most."""


def attacks_page() -> str:
    """Render the last result of `make attack`."""
    result, older = kept()["attack"]
    machine, attacks = result["machine"], result["attacks"]
    beside = attacks[-1]["neighbour"]
    worst = sorted(beside["receivers"].items(), key=lambda one: -one[1]["p99_ratio_to_polite"])[:WORST_SHOWN]
    lines = [
        "# Attacks",
        "",
        "`make attack` starts a stack and attacks it with the cases of the tests: calls that break the OpenAPI",
        "document, large heads, unfinished and expensive requests, every route without the right for it, refused",
        "URLs, and the [hostile receivers](hostile-receivers.md). The seed determines data and order. During each",
        "attack on the API another client asks for `/healthz` on a connection of its own. Each hostile receiver,",
        "five of them over TLS too, is owed 1,500 deliveries in 6 s (a case is a request), while a healthy receiver",
        "of another store is sent 20 events a second. The same is measured alone before, and beside two receivers",
        "without fault. Generated from `bench/results/attack.json` by `make docs`.",
        "",
        f"{origin(result, older=older)}: {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{result['minutes']:.0f} minutes; load after {result['load_after']:.1f}, of which other work on the machine "
        "had its part.",
        "",
        "| attack | cases tried | let in | which would be | longest `/healthz` wait, or p99 of the neighbour |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for one in attacks:
        wait = f"{one['healthz_ms']:.0f} ms" if "healthz_ms" in one else "–"
        if "neighbour" in one:
            wait = f"p99 {beside['p99_ratio']:.1f}× of alone in the median"
        counts = one["counts_as_let_in"]
        lines.append(f"| {one['name']} | {one['cases']:,} | {one['let_in']:,} | {counts} | {wait} |")
    lines += [
        "",
        f"Without an attack the other client waits at most {result['healthz_idle_ms']:.0f} ms. The goal is that no "
        f"request of one client holds another's `/healthz` longer than {HEALTHZ_MS} ms. {_too_long(result)}",
        "",
        f"Alone, the neighbour's deliveries arrive after p50 {beside['p50_ms_alone']:.0f} ms and p99 "
        f"{beside['p99_ms_alone']:.0f} ms, beside a hostile receiver after {beside['p50_ms_among']:.0f} ms and "
        f"{beside['p99_ms_among']:.0f} ms (medians over the receivers). The goal is p99 at most 3× of that beside a "
        "receiver without fault that closes its connections, over HTTP and over TLS. It is not 3× of alone, since any "
        "load of this kind takes more: at this rate events gather for 100 ms. The receivers without fault, and the "
        "worst:",
        "",
        "| the receiver … | p50, p99 beside it | p99, of alone | p99, of beside one that closes |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, pair in [*beside["polite"].items(), *worst]:
        among = f"{pair['among']['p50_ms']:.0f} ms, {pair['among']['p99_ms']:.0f} ms"
        lines.append(f"| {name} | {among} | {pair['p99_ratio']:.1f}× | {pair['p99_ratio_to_polite']:.1f}× |")
    return "\n".join(lines) + "\n"


def _too_long(result: dict[str, Any]) -> str:
    """Say which attacks held up another client for longer than the goal."""
    waits = {one["name"]: one.get("healthz_ms", 0) for one in result["attacks"]}
    over = [f"{name} ({wait:.0f} ms)" for name, wait in waits.items() if wait > HEALTHZ_MS]
    busy = " The machine had other work before, so the run was not judged by it." if was_busy(result) else ""
    return f"Over it: {', '.join(over)}.{busy}" if over else "Each attack is within it."


def performance_page() -> str:
    """Return the page with the table of all kept results."""
    lines = ["| result | taken by, when, at which commit, on what |", "| --- | --- |"]
    lines += [f"| `{name}` | {origin(result, older=older)} |" for name, (result, older) in kept().items()]
    page, results = placed((DOCS / "performance.md").read_text(), "origins", "\n".join(lines)), kept()
    page = placed(page, "scenarios", "\n".join(scenario_lines(results)))
    parts = {"failing": _failing_lines, "seam": _seam_lines, "layers": _layers_lines}
    for name, render in parts.items():
        if name not in results:
            continue
        result, older = results[name]
        page = placed(page, name, "\n".join([f"{origin(result, older=older)}:", "", *render(result["figures"])]))
    return placed(page, "floors", "\n".join(_floors_lines(results)))


def _failing_lines(found: dict[str, Any]) -> list[str]:
    """Render medians and ranges of the rounds: of bursts in which nothing fails, and every tenth request does."""
    lines = [
        f"| bursts of {found['events']:,}, {len(found['rounds'])} rounds: median (least–most) "
        "| deliveries/s until the last retry | p50 | p99 | CPU s per 1,000 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for half, title in (("well", "no request fails"), ("every_tenth_fails", "every tenth fails at first")):
        cells = []
        for key, form in (
            ("per_second", "{:,.0f}"),
            ("p50_ms", "{:,.0f} ms"),
            ("p99_ms", "{:,.0f} ms"),
            ("cpu_seconds_per_1000_total", "{:.2f}"),
        ):
            values = [one[half][key] for one in found["rounds"]]
            middle, least, most = (form.format(value) for value in (median(values), min(values), max(values)))
            cells.append(f"{middle} ({least}–{most})")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _seam_lines(found: dict[str, Any]) -> list[str]:
    """Render the CPU of a request by each way, and the bursts with the seam to those without."""
    lines = [
        f"| a request, {found['in_flight']} in flight: CPU of the sender | http | HTTPS |",
        "| --- | ---: | ---: |",
    ]
    for name, words in WAYS.items():
        cells = " | ".join(f"{found['requests'][name][scheme]['cpu_us']:.0f} µs" for scheme in ("http", "https"))
        lines.append(f"| {words} | {cells} |")
    lines += [
        "",
        f"| bursts of {found['events']:,} with that transport, of without | http | HTTPS |",
        "| --- | ---: | ---: |",
    ]
    for name, words in (
        ("deliveries_per_second", "deliveries a second"),
        ("cpu_s_per_1000", "CPU of all processes"),
        ("cpu_s_per_1000_worker", "CPU of the worker"),
    ):
        spreads = [found["bursts"][scheme][name] for scheme in ("http", "https")]
        cells = " | ".join(f"{middle:.2f}× ({least:.2f}–{most:.2f})" for middle, least, most in spreads)
        lines.append(f"| {words} | {cells} |")
    return lines


def _layers_lines(found: dict[str, Any]) -> list[str]:
    """Render the shares of the samples of worker and PostgreSQL."""
    lines = [f"{found['events']:,} events to one subscription, {found['per_second']:,} a second."]
    for title, key in (
        ("Python in the worker", "worker_python_percent"),
        ("statements in PostgreSQL, by their beginning", "postgres_statements_percent"),
        ("PostgreSQL's processes wait for", "postgres_waits_percent"),
    ):
        lines += ["", f"| {title} | % of samples |", "| --- | ---: |"]
        lines += [f"| {name[:60]} | {share:.0f} |" for name, share in found[key].items() if share >= LEAST_SHARE]
    return lines


def _floors_lines(results: dict[str, tuple[dict[str, Any], bool]]) -> list[str]:
    """Render before, now and the floor, on the development server and on a server with PostgreSQL."""
    kinds = [results[name] for name in ("floors", "floors-running")]
    servers = {"development": "development server", "running": "server with PostgreSQL and 512 shards"}
    lines = [
        f"- {words}: {origin(one, older=older)}" for words, (one, older) in zip(servers.values(), kinds, strict=True)
    ]
    heads = [f"{words}: before | now | ratio in turn |" for words in servers.values()]
    lines += [
        "",
        f"| figure | floor | {' | '.join(heads)} |",
        f"| --- | --- |{' ---: | ---: | ---: | --- |' * len(kinds)}",
    ]
    for floor in FLOORS:
        cells = []
        for server, (one, _) in zip(servers, kinds, strict=True):
            if floor.figure not in one["measured"]:
                cells += ["–"] * 3 + [""]
                continue
            found = Measured(**one["measured"][floor.figure])
            judged = "holds" if floor.holds(found) else "**missed**"
            cells += ["–" if value is None else _short(value) for value in (found.old, found.new, found.ratio)]
            cells.append(judged if floor.server in (None, server) else "")
        if set(cells) != {"–", ""}:
            lines.append(f"| {floor.text} | {floor.bound()} | {' | '.join(cells)} |")
    return lines


def reliability_page() -> str:
    """Return the page with the last results of the harness in its parts."""
    page, results = (DOCS / "reliability.md").read_text(), kept()
    parts: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "chaos": _chaos_lines,
        "chaos-partitions": _chaos_lines,
        "defects": _defects_lines,
        "chaos-running": _chaos_lines,
        "chaos-busy": _busy_lines,
        "kills": _kills_lines,
        "kills-running": _kills_lines,
        "hour": _hour_lines,
        "hour-running": _hour_lines,
    }
    for name, lines in parts.items():
        if name in results:
            result, older = results[name]
            page = placed(page, name, "\n".join([f"{origin(result, older=older)}:", *lines(result)]))
    return placed(page, "fairness", "\n".join(_fairness_lines(results)))


def _fairness_lines(results: dict[str, tuple[dict[str, Any], bool]]) -> list[str]:
    """Render the p99 of a quiet store beside others, of each scenario that was taken."""
    lines = ["| beside | p50, median of the pairs | p99 (least–most) | taken by |", "| --- | ---: | ---: | --- |"]
    for name, beside in FAIRNESS.items():
        if name in results:
            result, older = results[name]
            p50, p99 = (result["figures"][f"{key}_ms_among"] for key in ("p50", "p99"))
            spread = f"{p99['median']:.0f} ms ({p99['least']:.0f}–{p99['most']:.0f})"
            lines.append(f"| {beside} | {p50['median']:.0f} ms | {spread} | {origin(result, older=older)} |")
    return lines


def _defects_lines(result: dict[str, Any]) -> list[str]:
    """Render the promises that the harness found broken with each defect."""
    found = [f"| `{name}` | {'; '.join(broken) or '**not found**'} |" for name, broken in result["found"].items()]
    return ["", "| defect | found as |", "| --- | --- |", *found]


def _kills_lines(result: dict[str, Any]) -> list[str]:
    """Render what became of a minute's events in which one component was killed three times."""
    found = result["figures"]
    lines = [
        f"{found['per_second']:.0f} single events a second for {found['seconds']:.0f} s in each row, "
        f"{found['workers']} worker.",
        "",
        "| killed three times | accepted | refused | lost | repeated | p50 | p99 | slowest | ready again after |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, row in found["killed"].items():
        counts = " | ".join(f"{row[key]:,}" for key in ("accepted", "refused", "lost", "repeated"))
        late = " | ".join(_seconds(row[f"{key}_seconds"]) for key in ("p50", "p99", "max"))
        ready = ", ".join(map(_seconds, row["ready_seconds"])) or "–"
        lines.append(f"| {name} | {counts} | {late} | {ready} |")
    return lines


def _hour_lines(result: dict[str, Any]) -> list[str]:
    """Render the shares of an hour's first attempts that came in time."""
    found = result["figures"]
    lines = [
        f"{found['minutes']} minutes at {found['per_second']:,} events a second (bursts: "
        f"{', '.join(map(str, found['burst_per_second']))}), {found['workers']} worker: "
        f"{found['accepted']:,} accepted, {found['refused']:,} refused (each time counted), **lost {found['lost']}**, "
        f"repeated {found['repeated']:,}.",
        "",
        "| first attempts of events accepted in | number | within 2 s of the 202 | within 5 s | slowest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, key in (("minutes without a disturbance", "quiet"), ("all minutes", "all")):
        row = found[key]
        shares = " | ".join(f"{row[f'within_{bound}']} %" for bound in (2, 5))
        lines.append(f"| {name} | {row['deliveries']:,} | {shares} | {_seconds(row['max_seconds'])} |")
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for minute in found["by_minute"]:
        kinds = " and ".join(" ".join(name.split()[:2]) for name in minute["disturbances"])
        by_kind.setdefault(kinds, []).append(minute)
    for kinds, minutes in by_kind.items():
        if kinds:
            number = sum(one["deliveries"] for one in minutes)
            shares = " | ".join(
                f"{sum(one[f'within_{bound}'] * one['deliveries'] for one in minutes) / number:.3f} %"
                for bound in (2, 5)
            )
            slowest = _seconds(max(one["max_seconds"] for one in minutes))
            lines.append(f"| {len(minutes)} minutes with {kinds} | {number:,} | {shares} | {slowest} |")
    return lines


def _busy_lines(result: dict[str, Any]) -> list[str]:
    """Render what the promises in seconds come to beside other work."""
    machine, totals = result["machine"], result["totals"]
    lines = [
        f"{totals['disturbances']} disturbances beside {machine['beside']} processes that compute all the time, load "
        f"{machine['load_after']:.0f}: **lost {totals['lost']}**, repeated {totals['duplicates']}.",
        "",
        "| guarantee | measured | limit without other work |",
        "| --- | --- | --- |",
    ]
    for promise in result["promises"]:
        if promise["unit"] == "s":
            bound = {"retry": STRICT.retry_p99_seconds}.get(promise["text"].split()[0], STRICT.recovery_seconds)
            lines.append(f"| {promise['text']} | {_seconds(promise['figure'])} | {bound:g} s |")
    return lines


def _chaos_lines(result: dict[str, Any]) -> list[str]:
    """Render the result as text: the run, the disturbances, and each guarantee with its measured figure."""
    totals, machine = result["totals"], result["machine"]
    arrival, overall = totals["arrival_seconds"], totals["retry_error_seconds"]
    lines = [
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['workers']} workers; {totals['events']:,} "
        f"events, {totals['events_sent_again']:,} of them",
        f"repeated by the emitter, {totals['deliveries']:,} deliveries in {totals['requests']:,} requests; "
        f"{totals['kills']} kills",
        f"among {totals['disturbances']} disturbances; **lost {totals['lost']}**, repeated {totals['duplicates']}.",
        "",
        "| disturbance | times | requests in flight | repeats | until the process was ready again, p50 "
        "| until new events arrived, p50 | maximum |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, kind in result["kinds"].items():
        ready, recovery = kind["process_seconds"], kind["recovery_seconds"]
        lines.append(
            f"| {name} | {kind['count']} | {kind['under_way']} | {kind['repeats']} "
            f"| {_seconds(ready['p50'])} | {_seconds(recovery['p50'])} | {_seconds(recovery['max'])} |"
        )
    lines += ["", "| guarantee | measured | limit | |", "| --- | --- | --- | --- |"]
    for promise in result["promises"]:
        seen, bound = (_figure(promise[key], promise["unit"]) for key in ("figure", "bound"))
        verdict = "not measured" if promise["figure"] is None else "kept" if promise["kept"] else "**broken**"
        lines.append(f"| {promise['text']} | {seen} | {bound} | {verdict} |")
    return [
        *lines,
        "",
        f"Latency from the 202 to the first request, kills included: p50 {_seconds(arrival['p50'])}, "
        f"p99 {_seconds(arrival['p99'])}, maximum {_seconds(arrival['max'])}.",
        f"Of {totals['retries']:,} timed retries {totals['retries_undisturbed']:,} were undisturbed; lateness of all: "
        f"p50 {_seconds(overall['p50'])}, p99 {_seconds(overall['p99'])}.",
    ]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= WHOLE_FROM else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _figure(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:g} {unit}".strip()
