"""Messages, tables, progress and exit codes of the commands."""

import json
import time
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from domain.wire.excerpts import printable

STANDARD_INPUT = Path("-")
"""The file name that means standard input."""

EXIT_FAILED = 1

EXIT_USAGE = 2
"""Exit code for wrong usage, as typer's own, and for an API that cannot be reached."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell."""

_as_json: ContextVar[bool] = ContextVar("as_json", default=False)


def _remember(given: bool) -> bool:
    _as_json.set(given)
    return given


JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON, a stream as one object a line.", callback=_remember)
]
"""Option that `show`, `say` and the tables look up: the commands only declare it."""

PLAIN_PROGRESS_SECONDS = 2.0
"""Interval of progress lines without a terminal."""


def complain(text: str) -> None:
    """Print an error message to standard error, in red on a colour terminal, without wrapping."""
    Console(stderr=True).print(Text(_printable_lines(text), "bold red"), soft_wrap=True)


def failed(text: str, status: int = EXIT_FAILED) -> typer.Exit:
    """Print an error message and return the exception that ends the command."""
    complain(text)
    return typer.Exit(status)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return the number and the noun in its form: `1 value`, `2,000 values`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def json_wanted() -> bool:
    """Return True if the command was called with --json."""
    return _as_json.get()


def say(text: str) -> None:
    """Print a message beside the result: on standard error if the result is JSON."""
    typer.echo(_printable_lines(text), err=json_wanted())


def show(text: str, facts: object) -> None:
    """Print the result: the text, or with --json its facts."""
    if json_wanted():
        show_json(facts)
    else:
        say(text)


def show_json(value: object, indent: int | None = 2) -> None:
    """Print a value as JSON, `indent=None`: in one line. Foreign text in it cannot control the terminal."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)
    escaped = "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
    typer.echo(escaped.replace("\x7f", "\\u007f"))  # the one control character that JSON may hold as it is


def show_records(records: Sequence[dict[str, Any]]) -> None:
    """Print records of the same keys: a table whose titles are made of the keys, or with --json the records."""
    keys = records[0] if records else ("none",)
    titles = ["".join(f" {letter.lower()}" if letter.isupper() else letter for letter in key) for key in keys]
    show_table(titles, *(tuple(record.values()) for record in records), facts=records)


def show_table(titles: Sequence[str], *rows: Sequence[object], facts: object = None) -> None:
    """Print a table without lines that cuts nothing, numbers aligned to the right, or with --json its facts."""
    if json_wanted() and facts is not None:
        show_json(facts)
        return
    cells = [tuple(titles), *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    signs = [">" if isinstance(value, int) else "<" for value in (rows or (titles,))[0]]
    for line in cells:
        columns = zip(line, signs, widths, strict=True)
        typer.echo("  ".join(f"{cell:{sign}{width}}" for cell, sign, width in columns).rstrip())


def _cell(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return printable(", ".join(map(str, value)) if isinstance(value, list) else _plain(value))


def _plain(value: object) -> str:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)


class BarOrLines(Progress):
    """Progress bar on standard error, or a line every 2 s without a terminal. `task`: fields of its single task."""

    def __init__(self, *columns: ProgressColumn, shown: bool = True, **task: Any) -> None:
        console = Console(stderr=True)
        self._lines = shown and not console.is_terminal
        self._last_line = time.monotonic()
        bar = shown and console.is_terminal
        columns = columns or (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        super().__init__(*columns, TimeRemainingColumn(), console=console, disable=not bar, transient=True)
        self._only_task = self.add_task("", **task)

    def begin(self, title: str, total: int | None) -> None:
        """Begin to count from 0 to `total`, if that is known."""
        self.reset(self._only_task, description=title, total=total)

    def step(self, number: int = 1) -> None:
        """Count, and print a line with title, count and total if it is due."""
        task = self.tasks[0]
        of_total = "" if task.total is None else f" of {task.total:,.0f}"
        self.show(f"{task.description}: {task.completed + number:,.0f}{of_total}", advance=number)

    def show(self, line: str, **values: Any) -> None:
        """Set values of the bar, or print the line if it is due."""
        self.update(self._only_task, **values)
        now = time.monotonic()
        if self._lines and now - self._last_line >= PLAIN_PROGRESS_SECONDS:
            self._last_line = now
            self.console.print(Text(_printable_lines(line)))
