"""The findings of some runs as JSON, which documents quote, and as tables for a person."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.findings import STRICT, Bounds, Findings, Met, calm, promises
from tests.chaos.verdict import Duplicate, quantile


def as_json(runs: Sequence[Findings], machine: dict[str, Any], bounds: Bounds = STRICT) -> dict[str, Any]:
    """Everything worth keeping: `totals` of all runs, `kinds` by what was done to the stack, `runs` each by itself."""
    met = [one for run in runs for one in run.met]
    retries = [one for run in runs for one in run.retries]
    return {
        "machine": machine,
        "kept": all(promise.kept for promise in promises(runs, bounds)),
        "promises": [
            {"text": p.text, "figure": _round(p.figure), "bound": p.bound, "unit": p.unit, "kept": p.kept}
            for p in promises(runs, bounds)
        ],
        "totals": {
            "seeds": [run.seed for run in runs],
            "seconds": sum(run.seconds for run in runs),
            "events": sum(run.events for run in runs),
            "events_sent_again": sum(run.sent_again for run in runs),
            "deliveries": sum(run.deliveries for run in runs),
            "requests": sum(run.requests for run in runs),
            "kills": sum(run.kills for run in runs),
            "disturbances": len(met),
            "lost": sum(len(run.lost) for run in runs),
            "duplicates": sum(len(run.duplicates) for run in runs),
            "inversions": sum(len(run.inversions) for run in runs),
            "faults": dict(sum((Counter(run.faults) for run in runs), Counter[str]())),
            "arrival_seconds": _spread([one for run in runs for one in run.latenesses]),
            "retries": len(retries),
            "retry_error_seconds": _spread([abs(one.error) for one in retries]),
            "retries_undisturbed": len(calm(retries)),
            "retry_error_undisturbed_seconds": _spread(calm(retries)),
            "overshoot": _round(max(run.overshoot for run in runs)),
        },
        "kinds": _kinds(met, [one for run in runs for one in run.duplicates]),
        "runs": [_run(run) for run in runs],
    }


def _kinds(met: Sequence[Met], duplicates: Sequence[Duplicate]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for name in sorted({one.disturbance.name for one in met}):
        ones = [one for one in met if one.disturbance.name == name]
        before = [
            one.answered_before_seconds
            for one in duplicates
            if one.cause is not None and one.cause.name == name and one.answered_before_seconds is not None
        ]
        kinds[name] = {
            "count": len(ones),
            "under_way": sum(one.under_way for one in ones),
            "repeats": sum(one.repeats for one in ones),
            "answered_before_ms_most": None if not before else round(max(before) * 1000, 1),
            "process_seconds": _spread(
                [one.disturbance.process_seconds for one in ones if one.disturbance.process_seconds is not None]
            ),
            "recovery_seconds": _spread([one.recovery for one in ones if one.recovery is not None]),
            "flow_gap_seconds": _spread([one.flow_gap for one in ones if one.flow_gap is not None]),
        }
    return kinds


def _run(run: Findings) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "seconds": run.seconds,
        "events": run.events,
        "deliveries": run.deliveries,
        "requests": run.requests,
        "kills": run.kills,
        "lost": run.lost,
        "inversions": run.inversions,
        "refused": run.refused,
        "overshoot": _round(run.overshoot),
        "arrival_seconds": _spread(run.latenesses),
        "retry_error_undisturbed_seconds": _spread(calm(run.retries)),
        "duplicates": [
            {
                "path": one.path,
                "message_id": one.message_id,
                "cause": None if one.cause is None else one.cause.name,
                "answered_before_seconds": _round(one.answered_before_seconds),
            }
            for one in run.duplicates
        ],
        "disturbances": [
            {
                "at": _round(one.at),
                "name": one.disturbance.name,
                "detail": one.disturbance.detail,
                "under_way": one.under_way,
                "repeats": one.repeats,
                "process_seconds": _round(one.disturbance.process_seconds),
                "recovery_seconds": _round(one.recovery),
            }
            for one in run.met
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {
        "p50": _round(quantile(values, 0.5)),
        "p99": _round(quantile(values, 0.99)),
        "max": _round(max(values, default=None)),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def show(result: dict[str, Any], console: Console) -> None:
    """The tables of a result."""
    totals = result["totals"]
    console.print(
        f"Seeds {', '.join(map(str, totals['seeds']))}: {totals['events']:,} events, "
        f"{totals['deliveries']:,} deliveries, {totals['requests']:,} requests, {totals['kills']} kills of "
        f"{totals['disturbances']} disturbances."
    )
    kinds = Table(
        "done to the stack", "times", "requests met", "repeats", "ready again, p50", "new events, p50", "at most"
    )
    for name, kind in result["kinds"].items():
        recovery = kind["recovery_seconds"]
        kinds.add_row(
            name,
            *(str(kind[key]) for key in ("count", "under_way", "repeats")),
            _seconds(kind["process_seconds"]["p50"]),
            *(_seconds(recovery[key]) for key in ("p50", "max")),
        )
    console.print(kinds)
    table = Table("promise", "seen", "at most", "")
    for one in result["promises"]:
        seen, bound = (
            "–" if one[key] is None else f"{one[key]:g} {one['unit']}".strip() for key in ("figure", "bound")
        )
        verdict = "not measured" if one["figure"] is None else "[bold red]BROKEN"
        table.add_row(one["text"], seen, bound, "kept" if one["kept"] else verdict)
    console.print(table)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"
