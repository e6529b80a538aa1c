"""`loyalty-webhooks schedules …`: expiry schedules and manual scans."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import SpinnerColumn, TextColumn

from commands.target import Target, with_target
from commands.terminal import EXIT_FAILED, BarOrLines, complain, json_wanted, say, show, show_json, show_table
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import Kind
from domain.wire.excerpts import printable

POLL_SECONDS = 0.5

JOINED_SECONDS = 30.0
"""Time without a new scan after which one that ended as this one was asked for is taken for it: it was joined."""

schedules = typer.Typer(help="Expiry schedules: list, pause, scan manually.", no_args_is_help=True)


def _day(text: str) -> date:
    try:
        return read_day(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


KindOption = Annotated[Kind, typer.Option("--kind", help="Kind of expiry rows.")]
DayOption = Annotated[
    date | None,
    typer.Option(parser=_day, metavar="YYYY-MM-DD", help="Day of expiry; default: today plus the days of notice."),
]
FirstDay = Annotated[date, typer.Option("--from", parser=_day, metavar="YYYY-MM-DD", help="First day of expiry.")]
LastDay = Annotated[
    date, typer.Option("--to", parser=_day, metavar="YYYY-MM-DD", help="Last day of expiry, inclusive.")
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the end of the scan and print its result.")
]


@schedules.command("list")
@with_target
def list_(target: Target) -> None:
    """Show the schedules of a store: next run, progress and last scan."""
    items = target.get("schedule")["items"]
    titles = ("Kind", "State", "Next run", "Days ahead", "Scanned until", "Last scan")
    show_table(titles, *map(_schedule_row, items), facts=items)


def _schedule_row(item: dict[str, Any]) -> tuple[object, ...]:
    return (
        item["kind"],
        f"{item['state']}: {item['note']}" if item["state"] == "paused" and item["note"] else item["state"],
        _minute(item["nextRunAt"]),
        item["notificationDays"],
        _minute(item["scannedUntil"]),
        _scan_line(item["lastScan"]),
    )


@schedules.command()
@with_target
def sync(target: Target) -> None:
    """Create and update a store's schedules in Temporal now. Workers do this once a minute for all stores."""
    result = target.post("schedule/sync")
    for schedule_id, reason in result["failed"].items():
        complain(
            f"Schedule {schedule_id} was neither created nor updated: Temporal refused it ({reason}). If Temporal does "
            "not know the store's time zone, set another one; then run `loyalty-webhooks schedules sync` again."
        )
    text = f"{len(result['created'])} created, {len(result['updated'])} updated, the others unchanged."
    show(text, result)
    if result["failed"]:
        raise typer.Exit(EXIT_FAILED)


@schedules.command()
@with_target
def pause(target: Target, kind: KindOption) -> None:
    """Pause the schedule of a kind until `schedules resume`."""
    details = target.post(f"schedule/{kind}/pause")
    show(f"The schedule of {kind} is paused. After `schedules resume` it scans the missed days.", details)


@schedules.command()
@with_target
def resume(target: Target, kind: KindOption) -> None:
    """End a pause. The next run scans the missed days."""
    details = target.post(f"schedule/{kind}/resume")
    text = f"The schedule of {kind} is resumed. Next run: {_minute(details['nextRunAt']) or 'its local hour'}."
    show(text, details)


@schedules.command()
@with_target
def trigger(target: Target, kind: KindOption, day: DayOption = None, wait: WaitOption = True) -> None:
    """Scan the rows that expire on a day, and emit their events, now. Each row gets one event at most, however often it
    is scanned; the schedule goes on from where it was."""
    finished_before = {scan["scanId"] for scan in target.get(f"schedule/{kind}")["scans"] if scan["finishedAt"]}
    begun = target.post(f"schedule/{kind}/trigger", {} if day is None else {"day": day.isoformat()})
    text = f"Scanning {begun['day']}: {begun['temporalUrl'] or begun['workflowId']}"
    if not wait:
        show(text, begun)
    else:
        say(text)
        scan = _finished(target, kind, begun["day"], finished_before)
        show(_scan_line(scan), scan)


@schedules.command()
@with_target
def backfill(target: Target, kind: KindOption, first_day: FirstDay, last_day: LastDay) -> None:
    """Scan several days now, one after the other, as `trigger` scans one."""
    body = {"firstDay": first_day.isoformat(), "lastDay": last_day.isoformat()}
    begun = target.post(f"schedule/{kind}/backfill", body)
    text = f"Scanning {first_day} to {last_day}: {begun['temporalUrl'] or begun['workflowId']}"
    show(f"{text}\n`loyalty-webhooks schedules list` shows the progress.", begun)


@schedules.command()
@with_target
def preview(target: Target, kind: KindOption, day: DayOption = None) -> None:
    """Show the rows that a scan of a day would find, with sample bodies. Nothing is sent."""
    query = {} if day is None else {"day": day.isoformat()}
    found = target.get(f"expiry/{kind}/preview", **query)
    if json_wanted():
        show_json(found)
        return
    console = Console()
    when = day.isoformat() if day else "the day due today"
    console.print(f"{found['count']:,} of {kind} expire on {when}.", highlight=False)
    if not found["items"]:
        return
    rows = ((item["objectId"], item["expiresAt"], item["noticeGiven"]) for item in found["items"])
    show_table(("Id", "Expires", "Notice given"), *rows)
    for form in ("modern", "legacy"):
        console.print(f"Body of the first row, {form}:")
        show_json(found["items"][0][form])


def _finished(target: Target, kind: Kind, day: str, finished_before: set[str]) -> dict[str, Any]:
    """Wait for a new manual scan of the day to finish, or for none to begin beside one that had just finished."""
    joined_at = time.monotonic() + JOINED_SECONDS
    just_before = datetime.now(UTC) - timedelta(minutes=1)
    with BarOrLines(SpinnerColumn(), TextColumn("{task.description}", markup=False), total=None) as progress:
        while True:
            scans = target.get(f"schedule/{kind}")["scans"]
            of_day = [scan for scan in scans if scan["origin"] == "manual" and scan["day"] == day]
            new = [scan for scan in of_day if scan["scanId"] not in finished_before]
            if not new and time.monotonic() >= joined_at:
                new = [scan for scan in of_day if datetime.fromisoformat(scan["finishedAt"]) > just_before][:1]
            scan: dict[str, Any]
            for scan in new:
                if scan["finishedAt"] is not None:
                    return scan
                progress.show(_scan_line(scan), description=_scan_line(scan))
            time.sleep(POLL_SECONDS)


def _scan_line(scan: dict[str, Any] | None) -> str:
    """Return a scan's state and counts in one printable line."""
    if scan is None:
        return ""
    state = "" if scan["finishedAt"] else ", running"
    rate = f" ({scan['emittedPerSecond']:,.0f}/s)" if scan["emitted"] else ""
    undue = f", {scan['dropped']:,} no longer due" if scan["dropped"] else ""
    refused = f", {scan['refused']:,} refused" if scan["refused"] else ""
    return (
        f"{printable(scan['day'] or 'late rows')}{state}: {scan['scanned']:,} due, {scan['emitted']:,} emitted{rate}, "
        f"{scan['known']:,} already known{undue}{refused}"
    )


def _minute(instant: str | None) -> str:
    return "" if instant is None else f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M %Z}"
