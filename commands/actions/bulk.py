"""`loyalty-webhooks recover|backfill`: redeliver a time window, or deliver it to a new subscription."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

from commands.local_stack import passing
from commands.tail import read_status
from commands.target import Target, with_target
from commands.terminal import EXIT_FAILED, BarOrLines, counted, failed, json_wanted, say, show
from domain.delivery.lifecycle import TERMINAL, DeliveryStatus
from domain.timestamps import is_date_time

POLL_SECONDS = 0.5
_AGO = re.compile(r"([1-9][0-9]{0,5})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class _BulkCommand:
    """Names and messages of one bulk action."""

    name: str
    noun: str
    question: str
    one: str
    many: str
    """The nouns of a count, in the singular and in the plural."""


_RECOVER = _BulkCommand("recover", "recovery", "Send them again?", "delivery matches", "deliveries match")
_BACKFILL = _BulkCommand(
    *("backfill", "backfill", "Send them?", "event has no delivery to it", "events have no delivery to it")
)


@dataclass(frozen=True)
class _Wish:
    """Arguments and options of both commands."""

    subscription_id: Annotated[UUID | None, typer.Argument(metavar="WEBHOOK", help="Webhook id.")] = None
    since: Annotated[
        str | None, typer.Option(help="Start of the window: 2026-01-02T03:04:05Z, or 30m, 12h, 5d ago.", metavar="TIME")
    ] = None
    until: Annotated[
        str | None, typer.Option(help="End of the window, exclusive; default: now.", metavar="TIME", show_default=False)
    ] = None
    rate: Annotated[
        int | None, typer.Option(min=1, help="Maximum deliveries per second.", metavar="NUMBER", show_default=False)
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the deliveries and send nothing.")] = False
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation prompt.")] = False
    watch: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Show an earlier recovery or backfill.", show_default=False)
    ] = None
    cancel: Annotated[
        UUID | None, typer.Option(metavar="ID", help="Cancel an earlier recovery or backfill.", show_default=False)
    ] = None

    def window(self) -> dict[str, object]:
        """Return the window in the API's format. Raises typer.BadParameter."""
        if self.subscription_id is None or self.since is None:
            raise typer.BadParameter("WEBHOOK and --since are required")
        until = None if self.until is None else _instant(self.until, "--until")
        given = {"since": _instant(self.since, "--since"), "until": until, "ratePerSecond": self.rate}
        return {name: value for name, value in given.items() if value is not None}


@with_target
@passing(_Wish, json=False)
def recover(
    wish: _Wish,
    target: Target,
    status: Annotated[
        list[DeliveryStatus] | None,
        typer.Option(
            parser=lambda text: read_status(text, TERMINAL),
            metavar="STATUS",
            help="Status to send again: gave-up (default), cancelled or delivered; repeatable.",
        ),
    ] = None,
) -> None:
    """Redeliver a webhook's deliveries of a time window that gave up; --status selects other final statuses.

    WEBHOOK and --since are required, except with --watch and --cancel.

    Exit code 0: each has been attempted again. 1: refused, cancelled, or declined at the prompt. 2: wrong usage, or
    the API cannot be reached.
    """
    _perform(target, _RECOVER, wish, {"statuses": sorted({one.value for one in status})} if status else {})


@with_target
@passing(_Wish, json=False)
def backfill(wish: _Wish, target: Target) -> None:
    """Deliver past events to a webhook that was created after they were accepted.

    WEBHOOK and --since are required, except with --watch and --cancel.

    Exit code 0: each has been attempted. 1: refused, cancelled, or declined at the prompt. 2: wrong usage, or the API
    cannot be reached.
    """
    _perform(target, _BACKFILL, wish, {})


def _perform(target: Target, action: _BulkCommand, wish: _Wish, more: Mapping[str, object]) -> None:
    """Begin the action and show its progress, or show or cancel an earlier one."""
    if wish.cancel is not None:
        found = target.post(f"webhook/{action.name}/{wish.cancel}/cancel")
        show(f"Cancelled. {_summary(found)}", found)
        return
    if wish.watch is not None:
        _watch(target, action, str(wish.watch))
        return
    wanted = {**wish.window(), **more}
    path = f"webhook/subscription/{wish.subscription_id}/{action.name}"
    count = target.post(path, {action.name: {**wanted, "dryRun": True}})["count"]
    text = f"{counted(count, action.one, action.many)}."
    if wish.dry_run or not count:
        show(text, {"count": count})
        return
    say(text)
    if not wish.yes and not typer.confirm(action.question, err=json_wanted()):
        raise typer.Exit(EXIT_FAILED)
    begun = target.post(path, {action.name: wanted})[f"{action.name}Id"]
    say(f"{action.noun.capitalize()} {begun} has begun.")
    _watch(target, action, begun)


def _watch(target: Target, action: _BulkCommand, action_id: str) -> None:
    """Show the progress of an action until it ends. Ctrl-C leaves the action running."""
    figures = TextColumn("{task.fields[opened]:,} opened, {task.fields[failed]:,} failed again")
    columns = (TextColumn(action.noun.capitalize()), BarColumn(), MofNCompleteColumn(), figures)
    try:
        with BarOrLines(*columns, total=None, opened=0, failed=0) as bar:
            while (found := target.get(f"webhook/{action.name}/{action_id}"))["status"] == "running":
                values = {"total": found["count"], "opened": found["opened"], "failed": found["failedAgain"]}
                bar.show(_summary(found), completed=found["done"], **values)
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        message = f"The {action.noun} continues. To cancel it: loyalty-webhooks {action.name} --cancel {action_id}"
        raise failed(message) from None
    finished = found["status"] == "finished"
    if finished or json_wanted():
        show(f"Each has been attempted. {_summary(found)}", found)
    if not finished:
        raise failed(f"The {action.noun} was cancelled. {_summary(found)}")


def _summary(found: Mapping[str, Any]) -> str:
    """Return the counts of the action's deliveries as a sentence."""
    return (
        f"{found['opened']:,} of {found['count']:,} deliveries opened: {found['delivered']:,} delivered, "
        f"{found['failedAgain']:,} failed again, {found['waiting']:,} still waiting."
    )


def _instant(text: str, option: str) -> str:
    """Return an instant in the API's format. Raises typer.BadParameter."""
    if (ago := _AGO.fullmatch(text)) is not None:
        return (datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
    if is_date_time(text):
        return text
    raise typer.BadParameter(f"{option} is a time with an offset, such as 2026-01-02T03:04:05Z, or 30m, 12h, 5d ago")
