"""`loyalty-webhooks schedules …`: the schedules of what expires, and scans by hand."""

import json
import time
from datetime import date, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from commands.actions.client import EXIT_REFUSED, ActionClient
from commands.complaints import complain
from commands.target import ApiOption, DataDirectoryOption, KeyOption, StoreOption, find_target
from domain.expiry.calendar_days import read_day
from domain.expiry.rows import Kind
from local.data_directory import DEFAULT_DATA_DIRECTORY

POLL_SECONDS = 0.5

schedules = typer.Typer(help="Schedules of what expires: look, pause, scan by hand.", no_args_is_help=True)


def _day(text: str) -> date:
    try:
        return read_day(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


KindOption = Annotated[Kind, typer.Option("--kind", help="What expires.")]
DayOption = Annotated[
    date | None,
    typer.Option(
        parser=_day, metavar="YYYY-MM-DD", help="On which it expires; default: what is due today (today + N)."
    ),
]
FirstDay = Annotated[date, typer.Option("--from", parser=_day, metavar="YYYY-MM-DD", help="First day of expiry.")]
LastDay = Annotated[date, typer.Option("--to", parser=_day, metavar="YYYY-MM-DD", help="Last day of expiry, included.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is finished, and say what came of it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(schedules, name="schedules")


@schedules.command("list")
def list_(
    store: StoreOption = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Show the schedules of a store: when they run, how far they have come, and their last scans."""
    items = ActionClient(find_target(api, key, store, data_dir), "").get("schedule")["items"]
    if as_json:
        typer.echo(json.dumps(items, indent=2))
        return
    table = Table("Kind", "State", "Next run", "Days ahead", "Scanned until", "Last scan")
    for item in items:
        state = f"{item['state']}: {item['note']}" if item["state"] == "paused" and item["note"] else item["state"]
        table.add_row(
            item["kind"],
            state,
            _minute(item["nextRunAt"]),
            str(item["notificationDays"]),
            _minute(item["scannedUntil"]),
            _told(item["lastScan"]),
        )
    Console().print(table)


@schedules.command()
def sync(
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Make and mend a store's schedules in Temporal now; every worker does so once a minute for all stores."""
    result = ActionClient(find_target(api, key, store, data_dir), "").post("schedule/sync")
    for schedule_id, reason in result["failed"].items():
        complain(f"{schedule_id} is refused by Temporal: {reason}")
    typer.echo(f"{len(result['created'])} made, {len(result['updated'])} mended, the others are as they are to be.")
    if result["failed"]:
        raise typer.Exit(EXIT_REFUSED)


@schedules.command()
def pause(
    kind: KindOption,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Scan nothing of a kind by itself until `schedules resume`."""
    client = ActionClient(find_target(api, key, store, data_dir), "")
    client.post(f"schedule/{kind}/pause")
    typer.echo(f"The schedule of {kind} is paused. `schedules resume` makes up for the days it misses.")


@schedules.command()
def resume(
    kind: KindOption,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """End a pause; the next run makes up for the days that were missed."""
    details = ActionClient(find_target(api, key, store, data_dir), "").post(f"schedule/{kind}/resume")
    typer.echo(f"The schedule of {kind} runs again, next at {_minute(details['nextRunAt']) or 'its local hour'}.")


@schedules.command()
def trigger(
    kind: KindOption,
    day: DayOption = None,
    wait: WaitOption = True,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Scan a day now. What has had its notice gets none again; the schedule goes on where it was."""
    client = ActionClient(find_target(api, key, store, data_dir), "")
    finished_before = {scan["scanId"] for scan in client.get(f"schedule/{kind}")["scans"] if scan["finishedAt"]}
    begun = client.post(f"schedule/{kind}/trigger", {} if day is None else {"day": day.isoformat()})
    typer.echo(f"{begun['day']} is being scanned: {begun['temporalUrl'] or begun['workflowId']}")
    if wait:
        typer.echo(_told(_finished(client, kind, begun["day"], finished_before)))


@schedules.command()
def backfill(
    kind: KindOption,
    first_day: FirstDay,
    last_day: LastDay,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Scan several days now, one after the other. What has had its notice gets none again."""
    client = ActionClient(find_target(api, key, store, data_dir), "")
    body = {"firstDay": first_day.isoformat(), "lastDay": last_day.isoformat()}
    begun = client.post(f"schedule/{kind}/backfill", body)
    typer.echo(f"{first_day} to {last_day} are being scanned: {begun['temporalUrl'] or begun['workflowId']}")
    typer.echo("`loyalty-webhooks schedules list` shows how far it is.")


@schedules.command()
def preview(
    kind: KindOption,
    day: DayOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Show what a scan of a day would find, with sample bodies. Nothing is sent."""
    query = {} if day is None else {"day": day.isoformat()}
    found = ActionClient(find_target(api, key, store, data_dir), "").get(f"expiry/{kind}/preview", **query)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console()
    when = day.isoformat() if day else "the day that is due today"
    console.print(f"{found['count']:,} of {kind} expire on {when}.", highlight=False)
    if not found["items"]:
        return
    table = Table("Id", "Expires", "Notice given")
    for item in found["items"]:
        table.add_row(item["objectId"], item["expiresAt"], "yes" if item["noticeGiven"] else "no")
    console.print(table)
    for form in ("modern", "legacy"):
        console.print(f"The first one, {form}:")
        console.print_json(json.dumps(found["items"][0][form]), ensure_ascii=False)


def _finished(client: ActionClient, kind: Kind, day: str, finished_before: set[str]) -> dict[str, Any]:
    """The scan of the day by hand that had not finished before, once it has."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scanning")
        while True:
            scans = client.get(f"schedule/{kind}")["scans"]
            scan: dict[str, Any]
            for scan in scans:
                if scan["origin"] != "manual" or scan["day"] != day or scan["scanId"] in finished_before:
                    continue
                if scan["finishedAt"] is not None:
                    return scan
                progress.update(task, description=_told(scan))
            time.sleep(POLL_SECONDS)


def _told(scan: dict[str, Any] | None) -> str:
    """A scan in a line."""
    if scan is None:
        return ""
    state = "" if scan["finishedAt"] else ", goes on"
    rate = f" ({scan['emittedPerSecond']:,.0f}/s)" if scan["emitted"] else ""
    undue = f", {scan['dropped']:,} no longer due" if scan["dropped"] else ""
    refused = f", {scan['refused']:,} refused" if scan["refused"] else ""
    return (
        f"{scan['day'] or 'late rows'}{state}: {scan['scanned']:,} due, {scan['emitted']:,} emitted{rate}, "
        f"{scan['known']:,} known already{undue}{refused}"
    )


def _minute(instant: str | None) -> str:
    return "" if instant is None else f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M %Z}"
