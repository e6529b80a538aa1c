"""`loyalty-webhooks emit`: send events to the API as a platform does."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from commands.target import Target, with_target
from commands.terminal import (
    EXIT_FAILED,
    EXIT_USAGE,
    STANDARD_INPUT,
    BarOrLines,
    complain,
    failed,
    json_wanted,
    show_json,
    show_table,
)
from domain.events.catalogue import CATALOGUE, nearest_name
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

SHORTEST_TICK_SECONDS = 0.01
"""Minimum sleep between sends with --rate. At higher rates, all due events go as one batch."""

Lines = Iterator[OutgoingEvent | Rejection]


def known_event(name: str | None) -> str | None:
    """Return the name. Raises typer.BadParameter with the nearest name for one that is not in the catalogue."""
    if name is None or name in CATALOGUE:
        return name
    nearest = nearest_name(name)
    raise typer.BadParameter(f"unknown event {name}" + (f"; did you mean {nearest}?" if nearest else ""))


@with_target
def emit(  # noqa: PLR0913, PLR0917 - one parameter an option
    target: Target,
    event_name: Annotated[
        str | None, typer.Argument(metavar="EventName", help="Event name; not needed if every line has an eventName.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Event data as JSON.")] = None,
    event_id: Annotated[UUID | None, typer.Option(help="With --data: event id; the API takes each id once.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="NDJSON file, - for standard input. A line is an event, or its data if EventName is given."),
    ] = None,
    from_line: Annotated[int, typer.Option(min=1, help="With --file: resume from this line.")] = 1,
    sample: Annotated[
        bool, typer.Option("--sample", help="Send samples; without EventName, of the 17 events with a legacy form.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="With --sample: number of events; default: one of each.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Events per second; default: unlimited.")] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to retry while the API is unavailable.")
    ] = PATIENCE_SECONDS,
) -> None:
    """Send events to the API and report accepted, duplicate and rejected events.

    Prints the ids of up to 20 events; with --json, those of all, as the API accepts them.

    Exit code 0: all accepted. 1: some were rejected. 2: wrong usage, or the API stopped accepting events.
    """
    if [data is not None, file is not None, sample].count(True) != 1:
        raise typer.BadParameter("exactly one of --data, --file and --sample is required")
    if data is not None and event_name is None:
        raise typer.BadParameter("--data needs an EventName before it")
    if event_id is not None and data is None:
        raise typer.BadParameter("--event-id needs --data; the lines of a file have their own `eventId`")
    if count is not None and not sample:
        raise typer.BadParameter("--count needs --sample")
    if sample:  # with --data and --file the API refuses unknown names
        known_event(event_name)
    with ExitStack() as stack:
        lines: Lines
        total: int | None
        if data is not None and event_name is not None:
            given_id = None if event_id is None else str(event_id)
            lines, total = iter([single_event(event_name, data.encode(), given_id)]), 1
        elif file is not None:
            lines, total = _file_lines(stack, file, event_name, from_line)
        else:
            samples = count or (1 if event_name else sum(type_.seed for type_ in CATALOGUE.values()))
            lines, total = sample_events(event_name, samples), samples
        report, failure = asyncio.run(_send(target, lines, total, rate, patience))
    _print_report(report)
    if failure is not None:
        resume = f" Resume with --from-line {failure.line}." if file not in (None, STANDARD_INPUT) else ""
        raise failed(f"Stopped at line {failure.line}: {failure}{resume}", EXIT_USAGE)
    if report.rejections:
        raise typer.Exit(EXIT_FAILED)


def _file_lines(stack: ExitStack, file: Path, event_name: str | None, from_line: int) -> tuple[Lines, int | None]:
    """Return the lines and their number, or None for standard input."""
    if file == STANDARD_INPUT:
        return read_lines(sys.stdin.buffer, event_name, from_line), None
    try:
        with file.open("rb") as counted:
            total = sum(bool(line.strip()) for line in islice(counted, from_line - 1, None))
        stream = stack.enter_context(file.open("rb"))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    return read_lines(stream, event_name, from_line), total


async def _send(
    target: Target, lines: Lines, total: int | None, rate: float | None, patience: float
) -> tuple[SendReport, SendError | None]:
    """Send all events. Return the report and the error that stopped sending early, Ctrl-C included."""
    try:
        client = api_client(target.api, target.key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    async with client:
        with BarOrLines(shown=total is None or total >= PROGRESS_FROM) as progress:
            progress.begin("Sending", total)
            sender = EventSender(
                client, target.store, patience_seconds=patience, on_wait=complain, on_taken=_show_taken
            )
            try:
                await _send_all(sender, lines, rate, progress)
            except SendError as error:
                return sender.report, error
            except asyncio.CancelledError:
                unsure = " The outcome of the request in flight is unknown." if sender.asking else ""
                return sender.report, SendError(f"interrupted.{unsure}", sender.next_line)
            return sender.report, None


async def _send_all(sender: EventSender, source: Lines, rate: float | None, progress: BarOrLines) -> None:
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
        progress.step(len(lines))
        if rate is not None:
            next_due = started + taken / rate
            await asyncio.sleep(max(SHORTEST_TICK_SECONDS, next_due - time.monotonic()))


def _show_taken(event: OutgoingEvent, duplicate: bool) -> None:
    if json_wanted():
        _show_event("duplicate" if duplicate else "accepted", event.line, event.name, eventId=event.event_id)


def _print_report(report: SendReport) -> None:
    if json_wanted():
        for one in report.rejections:
            _show_event("rejected", one.line, one.name, reason=one.reason)
        return
    if report.accepted + report.duplicates == len(report.first) > 0:
        taken = (("duplicate" if again else "accepted", event.event_id, event.name) for event, again in report.first)
        show_table(("", "eventId", "event"), *taken)
    show_table(("accepted", "duplicate", "rejected"), (report.accepted, report.duplicates, len(report.rejections)))
    groups: dict[tuple[str, str], list[int]] = {}  # the lines of a file often share one mistake
    for rejection in report.rejections:
        groups.setdefault((rejection.name, rejection.reason), []).append(rejection.line)
    if groups:
        by_line = sorted(groups.items(), key=lambda group: min(group[1]))
        rows = [(_ranges(sorted(lines)), name, reason) for (name, reason), lines in by_line]
        typer.echo()
        show_table(("line", "event", "reason"), *rows)


def _show_event(outcome: str, line: int, name: str, **more: str) -> None:
    show_json({"outcome": outcome, "line": line, "eventName": name, **more}, indent=None)


def _ranges(numbers: list[int]) -> str:
    """Format sorted numbers as ranges: [3, 7, 8, 9] -> '3, 7-9'."""
    runs = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(runs)
