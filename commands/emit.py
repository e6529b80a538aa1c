"""`loyalty-webhooks emit`: send events to the API as a platform does."""

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from commands.complaints import complain
from commands.target import ApiOption, DataDirectoryOption, KeyOption, StoreOption, Target, find_target
from domain.events.catalogue import CATALOGUE, nearest_name
from local.data_directory import DEFAULT_DATA_DIRECTORY
from local.event_sender import (
    BATCH_EVENTS,
    PATIENCE_SECONDS,
    EventSender,
    OutgoingEvent,
    Rejection,
    SendError,
    SendReport,
    api_client,
    read_lines,
    sample_events,
    single_event,
)

PROGRESS_FROM = 101
"""Minimum number of events for a progress bar. Fewer events are sent before a bar could be read."""

PLAIN_PROGRESS_SECONDS = 2.0
"""Interval of progress lines without a terminal."""

SHORTEST_TICK_SECONDS = 0.01
"""Minimum sleep between sends with --rate. At higher rates, all due events go as one batch."""

EXIT_REJECTED = 1
EXIT_NOT_SENT = 2
"""Exit code if sending stopped early. Wrong usage exits with 2 too, as everywhere on the command line."""


@dataclass(frozen=True)
class EventSource:
    """Events to send. `total` is None if the count is unknown in advance."""

    lines: Iterator[OutgoingEvent | Rejection]
    total: int | None
    resumable: bool = False
    """True for a file, which can be resumed from a line."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("emit")(emit)


def emit(  # noqa: PLR0913, PLR0917 - one parameter an option
    event_name: Annotated[
        str | None, typer.Argument(metavar="EventName", help="Event name; not needed if every line has an eventName.")
    ] = None,
    store: StoreOption = None,
    data: Annotated[str | None, typer.Option(help="Event data as JSON.")] = None,
    event_id: Annotated[UUID | None, typer.Option(help="With --data: event id; the API takes each id once.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="NDJSON file, - for standard input. A line is an event, or its data if EventName is given."),
    ] = None,
    from_line: Annotated[int, typer.Option(min=1, help="With --file: resume from this line.")] = 1,
    sample: Annotated[
        bool, typer.Option("--sample", help="Send samples; without EventName, of all 17 events.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="With --sample: number of events; default: one of each.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Events per second; default: unlimited.")] = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to retry while the API is unavailable.")
    ] = PATIENCE_SECONDS,
) -> None:
    """Send events to the API and report accepted, duplicate and rejected events.

    Exit code 0: all accepted. 1: some were rejected. 2: wrong usage, or the API stopped accepting events.
    """
    if [data is not None, file is not None, sample].count(True) != 1:
        raise typer.BadParameter("exactly one of --data, --file and --sample is required")
    _check_combinations(event_name, data, event_id, count, sample=sample)
    target = find_target(api, key, store, data_dir)
    with ExitStack() as stack:
        if data is not None and event_name is not None:
            given_id = None if event_id is None else str(event_id)
            source = EventSource(iter([single_event(event_name, data.encode(), given_id)]), 1)
        elif file is not None:
            source = _file_source(stack, file, event_name, from_line)
        else:
            total = count or (1 if event_name else sum(type_.seed for type_ in CATALOGUE.values()))
            source = EventSource(sample_events(event_name, total), total)
        report, failure = asyncio.run(_send(target, source, rate, patience))
    _print_report(report)
    if failure is not None:
        resume = f" Resume with --from-line {failure.line}." if source.resumable else ""
        complain(f"Stopped at line {failure.line}: {failure}{resume}")
        raise typer.Exit(EXIT_NOT_SENT)
    if report.rejections:
        raise typer.Exit(EXIT_REJECTED)


def _check_combinations(
    event_name: str | None, data: str | None, event_id: UUID | None, count: int | None, *, sample: bool
) -> None:
    if data is not None and event_name is None:
        raise typer.BadParameter("--data needs an EventName before it")
    if event_id is not None and data is None:
        raise typer.BadParameter("--event-id needs --data; the lines of a file have their own `eventId`")
    if count is not None and not sample:
        raise typer.BadParameter("--count needs --sample")
    # With --data and --file the API refuses unknown names; there is no sample of an unknown event to send.
    if sample and event_name is not None and event_name not in CATALOGUE:
        nearest = nearest_name(event_name)
        raise typer.BadParameter(f"unknown event {event_name}" + (f"; did you mean {nearest}?" if nearest else ""))


def _file_source(stack: ExitStack, file: Path, event_name: str | None, from_line: int) -> EventSource:
    if file == Path("-"):
        return EventSource(read_lines(sys.stdin.buffer, event_name, from_line), None)
    try:
        with file.open("rb") as counted:
            total = sum(bool(line.strip()) for line in islice(counted, from_line - 1, None))
        stream = stack.enter_context(file.open("rb"))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    return EventSource(read_lines(stream, event_name, from_line), total, resumable=True)


async def _send(
    target: Target, source: EventSource, rate: float | None, patience: float
) -> tuple[SendReport, SendError | None]:
    """Send all events. Return the report and the error that stopped sending early, Ctrl-C included."""
    try:
        client = api_client(target.api, target.key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    async with client:
        with _EmitProgress(source.total) as progress:
            sender = EventSender(client, target.store, patience_seconds=patience, on_wait=progress.say)
            try:
                await _send_all(sender, source.lines, rate, progress)
            except SendError as error:
                return sender.report, error
            except asyncio.CancelledError:
                unsure = " The outcome of the request in flight is unknown." if sender.asking else ""
                return sender.report, SendError(f"interrupted.{unsure}", sender.next_line)
            return sender.report, None


async def _send_all(
    sender: EventSender, source: Iterator[OutgoingEvent | Rejection], rate: float | None, progress: "_EmitProgress"
) -> None:
    started = time.monotonic()
    taken = 0
    while True:
        due = BATCH_EVENTS
        if rate is not None:
            due = min(BATCH_EVENTS, int((time.monotonic() - started) * rate) + 1 - taken)
        lines = list(islice(source, max(due, 0)))
        if not lines and due > 0:
            return
        taken += len(lines)
        sender.report.rejections.extend(line for line in lines if isinstance(line, Rejection))
        await sender.send([line for line in lines if isinstance(line, OutgoingEvent)])
        progress.update(sender.report.settled)
        if rate is not None:
            next_due = started + taken / rate
            await asyncio.sleep(max(SHORTEST_TICK_SECONDS, next_due - time.monotonic()))


class _EmitProgress:
    """Progress bar on standard error, or a line every 2 s without a terminal; nothing below PROGRESS_FROM events."""

    def __init__(self, total: int | None) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._shown = total is None or total >= PROGRESS_FROM
        self._last_line = time.monotonic()
        self._last_said = ""
        self._bar = Progress(
            TextColumn("Sending"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (self._shown and self._console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "_EmitProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, settled: int) -> None:
        """Show the number of settled events."""
        self._bar.update(self._task, completed=settled)
        now = time.monotonic()
        if self._shown and not self._console.is_terminal and now - self._last_line >= PLAIN_PROGRESS_SECONDS:
            self._last_line = now
            of_total = "" if self._total is None else f" of {self._total:,}"
            self._console.print(f"{settled:,}{of_total}", highlight=False)

    def say(self, text: str) -> None:
        """Print a warning, once in a row for the same cause."""
        cause = text.partition("; trying again")[0]
        if cause != self._last_said:
            self._last_said = cause
            self._console.print(Text(text, "yellow"), soft_wrap=True)


def _print_report(report: SendReport) -> None:
    console = Console()
    if report.accepted + report.duplicates == len(report.first) > 0:
        taken = Table("", box=box.SIMPLE_HEAD)
        taken.add_column("eventId", min_width=36, no_wrap=True)  # users copy the id to look the event up
        taken.add_column("event", overflow="fold")
        for event, duplicate in report.first:
            taken.add_row("duplicate" if duplicate else "accepted", event.event_id, event.name)
        console.print(taken)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("accepted", "duplicate", "rejected"):
        table.add_column(column, justify="right")
    table.add_row(f"{report.accepted:,}", f"{report.duplicates:,}", f"{len(report.rejections):,}")
    console.print(table)
    if report.rejections:
        rejected = Table("line", "event", "reason", box=box.SIMPLE_HEAD)
        for lines, name, reason in _grouped(report.rejections):
            rejected.add_row(Text(lines), Text(name), Text(reason))
        console.print(rejected)


def _grouped(rejections: Iterable[Rejection]) -> list[tuple[str, str, str]]:
    """Group rejections to (line numbers, event, reason). The lines of a file often share one mistake."""
    groups: dict[tuple[str, str], list[int]] = {}
    for rejection in rejections:
        groups.setdefault((rejection.name, rejection.reason), []).append(rejection.line)
    by_first_line = sorted(groups.items(), key=lambda group: min(group[1]))
    return [(_ranges(sorted(lines)), name, reason) for (name, reason), lines in by_first_line]


def _ranges(numbers: list[int]) -> str:
    """Format sorted numbers as ranges: [3, 7, 8, 9] -> '3, 7-9'."""
    runs = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(runs)
