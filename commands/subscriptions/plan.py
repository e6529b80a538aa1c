"""Display of planned and applied changes, a line each and one for each field."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from api.subscription_sets.models import PlannedChange, SetAnswer
from commands.terminal import json_wanted, show_json
from domain.wire.excerpts import printable

SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}
"""Sign and colour of each action."""

OTHERS_NAMED_MOST = 20


def show_changes(console: Console, answer: SetAnswer, *, as_result: bool = True) -> None:
    """Print each change with its fields, then the counts; a result with --json as JSON, without signing keys."""
    if as_result and json_wanted():
        hidden = {"changes": {"__all__": {"hmac_secret"}}}
        show_json(answer.model_dump(mode="json", by_alias=True, exclude=hidden))
        return
    for change in answer.changes:
        sign, style = SIGNS[change.action]
        words = (sign, change.event_name, change.name or "–", change.url)
        console.print(Text(printable("  ".join(words)), style), soft_wrap=True)
        for line in _lines(change):
            console.print(Text("    ").append(line), soft_wrap=True)
    for change in answer.changes:
        if change.warning:
            warning = printable(f"{change.event_name}: {change.warning}.")
            console.print(Text(warning, "yellow"), soft_wrap=True)
    numbers = {action: sum(change.action == action for change in answer.changes) for action in SIGNS}
    counts = [
        f"{number:,} {action}d" if answer.applied else f"{number:,} to {action}"
        for action, number in numbers.items()
        if number
    ]
    unchanged = f"{answer.unchanged:,} unchanged."
    console.print(", ".join([*(counts or ["Nothing to do"]), unchanged]), soft_wrap=True, highlight=False)
    if answer.others:
        named = [f"{other.event_name} {other.name or '–'} ({other.webhook_subscription_id})" for other in answer.others]
        listed = printable(", ".join(named[:OTHERS_NAMED_MOST]) + (", …" if len(named) > OTHERS_NAMED_MOST else ""))
        others = f"{len(named):,} only in the store, kept unless --prune deletes them: {listed}."
        console.print(Text(others), soft_wrap=True)


def _lines(change: PlannedChange) -> Iterator[Text]:
    for field in change.changes:
        if change.action == "update" or field.field not in ("url", "name"):  # the title of a new one shows these
            before = "" if change.action == "create" else f"{_value(field.before)} → "
            yield Text(printable(f"{field.field}: {before}{_value(field.after)}"))
    for loss in change.loses:
        yield Text(f"loses {printable(loss)}", "red")


def _value(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return printable(", ".join(f"{name} {one}" for name, one in value.items()))
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    return printable(str(value))


def show_keys(console: Console, changes: list[PlannedChange]) -> None:
    """Print new signing keys, which only the panel shows later."""
    console.print("New signing keys; copy them now, later only the panel shows them:")
    for change in changes:
        words = (change.event_name, change.name or "–", str(change.webhook_subscription_id), change.hmac_secret or "")
        console.print(Text("  " + "  ".join(map(printable, words))), soft_wrap=True)
