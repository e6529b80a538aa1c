"""`loyalty-webhooks recover|backfill`: redeliver a time window, or deliver it to a new subscription."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from commands.target import Target, with_target
from commands.terminal import EXIT_FAILED, failed
from domain.delivery.lifecycle import DeliveryStatus
from domain.timestamps import is_date_time

POLL_SECONDS = 0.5
_AGO = re.compile(r"([1-9][0-9]{0,5})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Status(StrEnum):
    """Final statuses that a recovery may select."""

    EXHAUSTED = DeliveryStatus.EXHAUSTED
    CANCELLED = DeliveryStatus.CANCELLED
    DELIVERED = DeliveryStatus.DELIVERED


@dataclass(frozen=True)
class _BulkCommand:
    """Names and messages of one bulk action."""

    name: str
    noun: str
    question: str
    counted: str


_RECOVER = _BulkCommand("recover", "recovery", "Send them again?", "deliveries match")
_BACKFILL = _BulkCommand("backfill", "backfill", "Send them?", "events have no delivery to it")

SubscriptionId: TypeAlias = Annotated[UUID | None, typer.Argument(metavar="SUBSCRIPTION", help="Subscription id.")]
Since: TypeAlias = Annotated[
    str | None, typer.Option(help="Start of the window: 2026-01-02T03:04:05Z, or 30m, 12h, 5d ago.", metavar="TIME")
]
Until: TypeAlias = Annotated[
    str | None, typer.Option(help="End of the window, exclusive; default: now.", metavar="TIME", show_default=False)
]
Rate: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Maximum deliveries per second.", metavar="NUMBER", show_default=False)
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Count the deliveries and send nothing.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Skip the confirmation prompt.")]


@with_target
def recover(  # noqa: PLR0913, PLR0917 - one parameter an option
    target: Target,
    subscription_id: SubscriptionId = None,
    since: Since = None,
    until: Until = None,
    status: Annotated[list[Status] | None, typer.Option("--status", help="Statuses to send again; repeatable.")] = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    watch: Annotated[
        UUID | None,
        typer.Option(metavar="RECOVERY", help="Show the progress of this recovery.", show_default=False),
    ] = None,
    cancel: Annotated[
        UUID | None, typer.Option(metavar="RECOVERY", help="Cancel this recovery instead.", show_default=False)
    ] = None,
) -> None:
    """Redeliver a subscription's exhausted deliveries of a time window.

    Exit code 0: each has been attempted again. 1: refused, cancelled, or declined at the prompt. 2: wrong usage, or
    the API cannot be reached.
    """
    statuses = {"statuses": sorted({one.value for one in status})} if status else {}
    if not _about_another(target, _RECOVER, watch, cancel):
        wanted = _window(subscription_id, since, until, rate)
        _begin(target, _RECOVER, subscription_id, {**wanted, **statuses}, dry_run=dry_run, yes=yes)


@with_target
def backfill(  # noqa: PLR0913, PLR0917 - one parameter an option
    target: Target,
    subscription_id: SubscriptionId = None,
    since: Since = None,
    until: Until = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    watch: Annotated[
        UUID | None,
        typer.Option(metavar="BACKFILL", help="Show the progress of this backfill.", show_default=False),
    ] = None,
    cancel: Annotated[
        UUID | None, typer.Option(metavar="BACKFILL", help="Cancel this backfill instead.", show_default=False)
    ] = None,
) -> None:
    """Deliver past events to a subscription that was created after they were accepted.

    Exit code 0: each has been attempted. 1: refused, cancelled, or declined at the prompt. 2: wrong usage, or the API
    cannot be reached.
    """
    if not _about_another(target, _BACKFILL, watch, cancel):
        wanted = _window(subscription_id, since, until, rate)
        _begin(target, _BACKFILL, subscription_id, wanted, dry_run=dry_run, yes=yes)


def _about_another(target: Target, action: _BulkCommand, watch: UUID | None, cancel: UUID | None) -> bool:
    """Show or cancel an earlier action. Return False if neither was requested."""
    if cancel is not None:
        typer.echo(f"Cancelled. {_summary(target.post(f'webhook/{action.name}/{cancel}/cancel'))}")
    elif watch is not None:
        _watch(target, action, str(watch))
    return cancel is not None or watch is not None


def _window(subscription_id: UUID | None, since: str | None, until: str | None, rate: int | None) -> dict[str, object]:
    if subscription_id is None or since is None:
        raise typer.BadParameter("SUBSCRIPTION and --since are required")
    wanted: dict[str, object] = {"since": _instant(since, "--since")}
    if until is not None:
        wanted["until"] = _instant(until, "--until")
    if rate is not None:
        wanted["ratePerSecond"] = rate
    return wanted


def _begin(
    target: Target,
    action: _BulkCommand,
    subscription_id: UUID | None,
    wanted: Mapping[str, object],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    path = f"webhook/subscription/{subscription_id}/{action.name}"
    count = target.post(path, {action.name: {**wanted, "dryRun": True}})["count"]
    typer.echo(f"{count:,} {action.counted}.")
    if dry_run or not count:
        return
    if not yes and not typer.confirm(action.question):
        raise typer.Exit(EXIT_FAILED)
    begun = target.post(path, {action.name: wanted})[f"{action.name}Id"]
    typer.echo(f"{action.noun.capitalize()} {begun} has begun.")
    _watch(target, action, begun)


def _watch(target: Target, action: _BulkCommand, action_id: str) -> None:
    """Show the progress of an action until it ends. Ctrl-C leaves the action running."""
    bar = Progress(
        TextColumn(action.noun.capitalize()),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[opened]} opened, {task.fields[failed]} failed again"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    try:
        with bar:
            task = bar.add_task("", total=None, opened="0", failed="0")
            while (found := target.get(f"webhook/{action.name}/{action_id}"))["status"] == "running":
                bar.update(
                    task,
                    total=found["count"],
                    completed=found["done"],
                    opened=f"{found['opened']:,}",
                    failed=f"{found['failedAgain']:,}",
                )
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        message = f"The {action.noun} continues. To cancel it: loyalty-webhooks {action.name} --cancel {action_id}"
        raise failed(message) from None
    if found["status"] != "finished":
        raise failed(f"The {action.noun} was cancelled. {_summary(found)}")
    typer.echo(f"Each has been attempted. {_summary(found)}")


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
