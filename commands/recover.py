"""`loyalty-webhooks recover`: deliver again what failed in a window."""

import re
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from commands.act_client import EXIT_REFUSED, ActClient
from commands.complaints import complain
from commands.target import ApiOption, DataDirectoryOption, KeyOption, StoreOption, find_target
from domain.timestamps import is_date_time
from local.data_directory import DEFAULT_DATA_DIRECTORY

POLL_SECONDS = 0.5
_AGO = re.compile(r"([1-9][0-9]{0,5})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Status(StrEnum):
    """What may be delivered again."""

    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    DELIVERED = "delivered"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("recover")(recover)


def recover(  # noqa: PLR0913, PLR0917 - one parameter an option
    subscription_id: Annotated[UUID | None, typer.Argument(metavar="SUBSCRIPTION", help="Its id.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From when on: 2026-01-02T03:04:05Z, or 30m, 12h, 5d ago.", metavar="TIME")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Until before when; default: now.", metavar="TIME", show_default=False)
    ] = None,
    status: Annotated[
        list[Status] | None, typer.Option("--status", help="What to send again; several by repeating.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    cancel: Annotated[
        UUID | None, typer.Option(metavar="RECOVERY", help="Cancel this recovery instead.", show_default=False)
    ] = None,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Deliver again what a subscription's receiver did not take (exhausted) in a window of time.

    Exit code 0: everything is on its way again. 1: refused, cancelled, or you said no. 2: wrong usage, or no API.
    """
    client = ActClient(find_target(api, key, store, data_dir))
    if cancel is not None:
        stopped = client.post(f"recover/{cancel}/cancel")
        typer.echo(f"Cancelled with {stopped['done']:,} of {stopped['count']:,} deliveries on their way again.")
        return
    if subscription_id is None or since is None:
        raise typer.BadParameter("say which: SUBSCRIPTION and --since")
    wanted: dict[str, object] = {"since": _instant(since, "--since")}
    if until is not None:
        wanted["until"] = _instant(until, "--until")
    if status:
        wanted["statuses"] = sorted({one.value for one in status})
    path = f"subscription/{subscription_id}/recover"
    count = client.post(path, {"recover": {**wanted, "dryRun": True}})["count"]
    typer.echo(f"{count:,} deliveries match.")
    if dry_run or not count:
        return
    if not yes and not typer.confirm("Send them again?"):
        raise typer.Exit(EXIT_REFUSED)
    begun = client.post(path, {"recover": wanted})
    typer.echo(f"Recovery {begun['recoverId']} has begun.")
    _watch(client, begun["recoverId"], begun["count"])


def _watch(client: ActClient, recover_id: str, count: int) -> None:
    """Until the recovery has ended. Ctrl-C leaves it running."""
    bar = Progress(
        TextColumn("Recovering"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    try:
        with bar:
            task = bar.add_task("", total=count)
            while (found := client.get(f"recover/{recover_id}"))["status"] == "running":
                bar.update(task, completed=found["done"])
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        complain(f"The recovery goes on. To end it: loyalty-webhooks recover --cancel {recover_id}")
        raise typer.Exit(EXIT_REFUSED) from None
    done = f"{found['done']:,} of {found['count']:,} deliveries are on their way again."
    if found["status"] != "finished":
        complain(f"The recovery was cancelled: {done}")
        raise typer.Exit(EXIT_REFUSED)
    typer.echo(f"{done} See the log of deliveries for what becomes of them.")


def _instant(text: str, option: str) -> str:
    """An instant as the API takes it; raises typer.BadParameter."""
    if (ago := _AGO.fullmatch(text)) is not None:
        return (datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
    if is_date_time(text):
        return text
    raise typer.BadParameter(f"{option} is a time with its offset, such as 2026-01-02T03:04:05Z, or 30m, 12h, 5d ago")
