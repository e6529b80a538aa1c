"""Messages, tables, progress and exit codes of the commands."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress, ProgressColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

STANDARD_INPUT = Path("-")
"""The file name that means standard input."""

EXIT_FAILED = 1

EXIT_USAGE = 2
"""Exit code for wrong usage, as typer's own, and for an API that cannot be reached."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell."""

PLAIN_PROGRESS_SECONDS = 2.0
"""Interval of progress lines without a terminal."""


def complain(text: str) -> None:
    """Print an error message to standard error, in red on a colour terminal, without wrapping."""
    Console(stderr=True).print(Text(text, "bold red"), soft_wrap=True)


def failed(text: str, status: int = EXIT_FAILED) -> typer.Exit:
    """Print an error message and return the exception that ends the command."""
    complain(text)
    return typer.Exit(status)


def printable(text: str) -> str:
    """Escape control characters and changes of text direction, as in YAML: foreign text cannot control the terminal."""
    return "".join(letter if letter.isprintable() else _escaped(ord(letter)) for letter in text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show_counts(columns: Iterable[str], *rows: Sequence[str | int]) -> None:
    """Print a table of texts and of numbers, which are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD)
    for column, cell in zip(columns, rows[0], strict=True):
        table.add_column(column, justify="left" if isinstance(cell, str) else "right")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else f"{cell:,}" for cell in row))
    Console().print(table)


class BarOrLines(Progress):
    """Progress bar on standard error, or a line every 2 s without a terminal. `task`: fields of its single task."""

    def __init__(self, *columns: ProgressColumn, shown: bool = True, **task: Any) -> None:
        console = Console(stderr=True)
        self._lines = shown and not console.is_terminal
        self._last_line = time.monotonic()
        bar = shown and console.is_terminal
        super().__init__(*columns, TimeRemainingColumn(), console=console, disable=not bar, transient=True)
        self._only_task = self.add_task("", **task)

    def show(self, line: str, **values: Any) -> None:
        """Set values of the bar, or print the line if it is due."""
        self.update(self._only_task, **values)
        now = time.monotonic()
        if self._lines and now - self._last_line >= PLAIN_PROGRESS_SECONDS:
            self._last_line = now
            self.console.print(line, highlight=False)
