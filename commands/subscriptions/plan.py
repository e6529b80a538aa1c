"""Display of planned and applied changes: a table on a terminal, else plain lines."""

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.subscription_sets.models import FieldChange, PlannedChange, SetAnswer

SIGNS = {"create": "+", "update": "~", "delete": "-"}
STYLES = {"create": "green", "update": "yellow", "delete": "red"}
DONE = {"create": "created", "update": "updated", "delete": "deleted"}
TO_DO = {"create": "to create", "update": "to update", "delete": "to delete"}
OTHERS_NAMED_MOST = 20


def show_changes(console: Console, answer: SetAnswer) -> None:
    """Print each change with its fields, then the counts."""
    if answer.changes and console.is_terminal:
        console.print(_table(answer))
    else:
        for change in answer.changes:
            console.print(_title(change), soft_wrap=True)
            for line in _lines(change):
                console.print(Text("    ").append(line), soft_wrap=True)
    for change in answer.changes:
        if change.warning:
            console.print(Text(f"{_visible(change.event_name)}: {_visible(change.warning)}.", "yellow"), soft_wrap=True)
    console.print(_counts(answer), soft_wrap=True, highlight=False)
    if answer.others:
        console.print(_others(answer), soft_wrap=True, highlight=False)


def _table(answer: SetAnswer) -> Table:
    table = Table("", "event", "name", "what", box=box.SIMPLE_HEAD)
    for change in answer.changes:
        what = Text("\n").join([Text(_visible(change.url)), *_lines(change)])
        cells = (SIGNS[change.action], _visible(change.event_name), _visible(change.name or "–"))
        table.add_row(*(Text(cell, STYLES[change.action]) for cell in cells), what)
    return table


def _title(change: PlannedChange) -> Text:
    words = (SIGNS[change.action], change.event_name, change.name or "–", change.url)
    return Text("  ".join(map(_visible, words)), STYLES[change.action])


def _lines(change: PlannedChange) -> Iterator[Text]:
    for field in change.changes:
        if change.action == "update" or field.field not in ("url", "name"):  # the title of a new one shows these
            yield Text(_field(field, created=change.action == "create"))
    for loss in change.loses:
        yield Text(f"loses {_visible(loss)}", "red")


def _field(change: FieldChange, *, created: bool) -> str:
    after = _value(change.after)
    return f"{change.field}: {after}" if created else f"{change.field}: {_value(change.before)} → {after}"


def _value(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    return _visible(str(value))


def _counts(answer: SetAnswer) -> str:
    words = DONE if answer.applied else TO_DO
    numbers = {action: sum(change.action == action for change in answer.changes) for action in SIGNS}
    parts = [f"{number:,} {words[action]}" for action, number in numbers.items() if number]
    return ", ".join([*(parts or ["Nothing to do"]), f"{answer.unchanged:,} unchanged"]) + "."


def _others(answer: SetAnswer) -> str:
    named = [f"{other.event_name} {other.name or '–'} ({other.webhook_subscription_id})" for other in answer.others]
    more = ", …" if len(named) > OTHERS_NAMED_MOST else ""
    listed = _visible(", ".join(named[:OTHERS_NAMED_MOST]) + more)
    return f"{len(named):,} only in the store, kept unless --prune deletes them: {listed}."


def show_keys(console: Console, changes: list[PlannedChange]) -> None:
    """Print new signing keys, which cannot be shown again."""
    console.print("New signing keys, shown only once:")
    for change in changes:
        words = (change.event_name, change.name or "–", str(change.webhook_subscription_id), change.hmac_secret or "")
        console.print(Text("  " + "  ".join(map(_visible, words))), soft_wrap=True)


def _visible(text: str) -> str:
    """Escape characters that would control the terminal."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
