"""`loyalty-webhooks tail`: show deliveries as they happen."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from commands.emit import known_event
from commands.target import Target, with_target
from commands.terminal import json_wanted, show_json
from domain.delivery.lifecycle import OPEN, STATUS_WORDS, DeliveryStatus
from domain.wire.excerpts import printable

POLL_SECONDS = 1.0

PAGE_ITEMS = 50
"""Maximum page size of the API."""

MOST_WATCHED = 500
"""Maximum number of open deliveries to watch for their outcome, the newest ones."""

OVERLAP = timedelta(seconds=2)
"""Time before the newest delivery to read again, since transactions do not commit in the order of their times."""

START = datetime(1970, 1, 1, tzinfo=UTC)
STYLES = {DeliveryStatus.DELIVERED: "green", DeliveryStatus.EXHAUSTED: "bold red"}


@with_target
def tail(
    target: Target,
    event: Annotated[
        str | None, typer.Option(metavar="EventName", callback=known_event, help="Only deliveries of this event.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Only deliveries to URLs that contain this text.")] = None,
    subscription: Annotated[UUID | None, typer.Option(help="Only deliveries of this webhook.")] = None,
    status: Annotated[
        list[DeliveryStatus] | None, typer.Option(help="Only deliveries that come into this status; repeatable.")
    ] = None,
) -> None:
    """Show deliveries as they happen: a line for each outcome of an attempt and each change of status. Ctrl-C ends.

    Follows new deliveries and the newest 500 open ones. A delivery that had ended and is sent again is not shown.

    For failures alone, as JSON for a program: `loyalty-webhooks tail --status exhausted --status held --json`.
    """
    given = {"eventName": event, "url[like]": url, "webhookSubscriptionId": subscription}
    filters = {name: str(value) for name, value in given.items() if value is not None}

    def page(**query: str) -> dict[str, Any]:
        found: dict[str, Any] = target.get("webhook/delivery", **filters, **query, _itemsOnPage=str(PAGE_ITEMS))
        return found

    with suppress(KeyboardInterrupt):
        for delivery in _changes(page):
            if not status or delivery["status"] in status:
                _show(delivery)


def _changes(page: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield for ever each delivery that is new or has changed, oldest first."""
    known = [*_listed(page, {"status[in]": ",".join(OPEN)}, MOST_WATCHED // PAGE_ITEMS), *_listed(page, {}, 1)]
    seen = {one["messageId"]: one for one in known}
    typer.echo("Waiting for deliveries. Ctrl-C ends.", err=True)
    while True:
        time.sleep(POLL_SECONDS)
        newest = max(map(_created, seen.values()), default=START)
        is_open = sorted((one for one in seen.values() if one["status"] in OPEN), key=_created)
        watched = [one["messageId"] for one in is_open[-MOST_WATCHED:]]
        recent = {key: one for key, one in seen.items() if _created(one) > newest - 2 * OVERLAP}
        seen = recent | {key: seen[key] for key in watched}
        found: list[dict[str, Any]] = []
        with suppress(typer.Exit):  # without an answer, whose reason is printed: the API may come back
            for first in range(0, len(watched), PAGE_ITEMS):
                found += page(**{"messageId[in]": ",".join(watched[first : first + PAGE_ITEMS])})["items"]
            found += _listed(page, {"createdAt[gte]": (newest - OVERLAP).isoformat()})
        for one in sorted(found, key=_created):
            before = seen.get(one["messageId"], {"status": DeliveryStatus.PENDING, "attempts": 0})
            seen[one["messageId"]] = one
            if (before["status"], before["attempts"]) != (one["status"], one["attempts"]):
                yield one


def _listed(
    page: Callable[..., dict[str, Any]], query: dict[str, str], most_pages: int | None = None
) -> list[dict[str, Any]]:
    """Return the deliveries of the first pages, the newest, or of all."""
    found: list[dict[str, Any]] = []
    for number in count(1):
        answer = page(**query)
        found += answer["items"]
        if answer["nextCursor"] is None or number == most_pages:
            break
        query["_cursor"] = answer["nextCursor"]
    return found


def _created(delivery: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(delivery["createdAt"])


def _show(delivery: dict[str, Any]) -> None:
    if json_wanted():
        show_json(delivery, indent=None)
        return
    ended, due = (delivery[name] and datetime.fromisoformat(delivery[name]) for name in ("endedAt", "nextAttemptAt"))
    words = Text(f"{(ended or datetime.now(UTC)).astimezone():%H:%M:%S}  ")
    status = STATUS_WORDS.get(delivery["status"], printable(delivery["status"]))
    words.append(f"{status:<9}", STYLES.get(delivery["status"], "yellow"))
    code, failure, number = (delivery[name] for name in ("lastStatusCode", "lastFailure", "attempts"))
    answer = [code and f"answered {code}", failure and f"failed ({failure})", number and f"attempt {number}"]
    answer.append(due and f"next attempt {due.astimezone():%H:%M:%S}")
    names = (delivery[name] for name in ("eventName", "url", "messageId"))
    facts = (str(fact) for fact in (*answer, *names) if fact)
    words.append("  " + printable("  ".join(facts)))
    Console(highlight=False).print(words, soft_wrap=True)
