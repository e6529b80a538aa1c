"""`loyalty-webhooks tail`: show deliveries as they happen."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from commands.emit import known_event
from commands.target import Target, with_target
from commands.terminal import json_wanted, show_json
from domain.delivery.failure_kinds import failure_in_words
from domain.delivery.lifecycle import ENDED_UNSENT, OPEN, STATUS_WORDS, DeliveryStatus, Reason
from domain.wire.excerpts import printable

POLL_SECONDS = 1.0

PAGE_ITEMS = 50
"""Maximum page size of the API."""

WATCHED = ((OPEN, 10), (ENDED_UNSENT, 1))
"""Statuses of deliveries to look at again, the newest ones, and for how many pages: open ones for their outcome, those
that ended without success for a redelivery or a recovery."""

OVERLAP = timedelta(seconds=2)
"""Time before the newest delivery to read again, since transactions do not commit in the order of their times."""

Page: TypeAlias = Callable[..., dict[str, Any]]
START = datetime(1970, 1, 1, tzinfo=UTC)
STYLES = {DeliveryStatus.DELIVERED: "green", DeliveryStatus.EXHAUSTED: "bold red"}
REASON_WORDS = {Reason.LIMITED: "rate, concurrency or order limit"}
"""Reasons whose names are not the words that are shown."""


def read_status(text: str, among: Iterable[DeliveryStatus] = tuple(DeliveryStatus)) -> DeliveryStatus:
    """Return the status by its name in the API, or by its words as they are shown."""
    wanted = text.lower().replace("-", " ")
    for status in among:
        if wanted in (status, STATUS_WORDS[status]):
            return status
    names = ", ".join(STATUS_WORDS[status].replace(" ", "-") for status in among)
    raise typer.BadParameter(f"{text!r} is no status; there are {names}")


@with_target
def tail(
    target: Target,
    event: Annotated[
        str | None, typer.Option(metavar="EventName", callback=known_event, help="Only deliveries of this event.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Only deliveries to URLs that contain this text.")] = None,
    subscription: Annotated[UUID | None, typer.Option(help="Only deliveries of this webhook.")] = None,
    status: Annotated[
        list[DeliveryStatus] | None,
        typer.Option(
            parser=read_status,
            metavar="STATUS",
            help="Only deliveries that come into this status: waiting, held, delivered, gave-up, cancelled, or its "
            "name in the API; repeatable.",
        ),
    ] = None,
) -> None:
    """Show deliveries as they happen: a line for each outcome of an attempt and each change of status, reason or next
    attempt. Ctrl-C ends.

    Follows new deliveries, the newest 500 open ones, recovered ones included, and the newest 50 that gave up or were
    cancelled, for a redelivery.

    For failures alone, as JSON for a program: `loyalty-webhooks tail --status gave-up --status held --json`.
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


def _changes(page: Page) -> Iterator[dict[str, Any]]:
    """Yield for ever each delivery that is new or has changed, oldest first."""
    watched, hidden_before = _watched(page)
    seen = watched | _by_id(_listed(page, {}, 1))
    typer.echo("Waiting for deliveries. Ctrl-C ends.", err=True)
    while True:
        time.sleep(POLL_SECONDS)
        newest = max(map(_created, seen.values()), default=START)
        found: dict[str, dict[str, Any]] = {}
        hidden = hidden_before
        with suppress(typer.Exit):  # without an answer, whose reason is printed: the API may come back
            now, hidden_before = _watched(page)
            gone = [key for key in watched if key not in now]
            for first in range(0, len(gone), PAGE_ITEMS):
                found |= _by_id(page(**{"messageId[in]": ",".join(gone[first : first + PAGE_ITEMS])})["items"])
            found |= now | _by_id(_listed(page, {"createdAt[gte]": (newest - OVERLAP).isoformat()}))
            watched = now
        known = seen
        recent = {key: one for key, one in seen.items() if _created(one) > newest - 2 * OVERLAP}
        seen = recent | watched | found
        for key, one in sorted(found.items(), key=lambda item: _created(item[1])):
            if key not in known and _created(one) < hidden[one["status"]]:
                continue  # Not new: it was beyond the last page, until a newer one changed.
            if _differs(known.get(key, {**one, "status": DeliveryStatus.PENDING, "attempts": 0}), one):
                yield one


def _differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return True if a line is due. A next attempt that is not listed any more has fallen due, which is no change."""
    if now["nextAttemptAt"] not in (None, before["nextAttemptAt"]):
        return True
    return any(before.get(name) != now.get(name) for name in ("status", "attempts", "reason"))


def _watched(page: Page) -> tuple[dict[str, dict[str, Any]], Mapping[str, datetime]]:
    """Return the deliveries to look at again, and for each status the instant before which some may be missing."""
    found: dict[str, dict[str, Any]] = {}
    hidden_before: dict[str, datetime] = defaultdict(lambda: START)
    for statuses, pages in WATCHED:
        listed = _listed(page, {"status[in]": ",".join(statuses)}, pages)
        if len(listed) == pages * PAGE_ITEMS:
            hidden_before |= dict.fromkeys(statuses, _created(listed[-1]))
        found |= _by_id(listed)
    return found, hidden_before


def _by_id(deliveries: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["messageId"]: one for one in deliveries}


def _listed(page: Page, query: dict[str, str], most_pages: int | None = None) -> list[dict[str, Any]]:
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
    if reason := delivery.get("reason"):  # an older API lists none
        status += (
            f": {REASON_WORDS.get(reason) or printable(reason.replace('_', ' ').replace('subscription', 'webhook'))}"
        )
    words.append(f"{status:<9}", STYLES.get(delivery["status"], "yellow"))
    code, failure, number = (delivery[name] for name in ("lastStatusCode", "lastFailure", "attempts"))
    said = f"failed ({failure_in_words(failure, code)})" if failure else code and f"answered {code}"
    answer = [said, number and f"attempt {number}"]
    answer.append(due and f"next attempt {due.astimezone():%H:%M:%S}")
    names = (delivery[name] for name in ("eventName", "url", "messageId"))
    facts = (str(fact) for fact in (*answer, *names) if fact)
    words.append("  " + printable("  ".join(facts)))
    Console(highlight=False).print(words, soft_wrap=True)
