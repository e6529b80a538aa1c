"""`loyalty-webhooks erase`: erase one customer's data and report what was erased."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import track

from commands.configuration import read_settings
from commands.database.connection import in_database, operator
from commands.terminal import EXIT_USAGE, failed
from storage.access.audit import record
from storage.access.stores import store_exists
from storage.database import Database
from storage.events.erasure import (
    PAGE,
    Erased,
    clear_late_answers,
    erase_events,
    events_of_customer,
    expiry_rows_of_customer,
    look_at,
    places,
)

LATE_SECONDS = 15.0
"""Time for writing the outcome of an attempt in flight, counted from the end of the request timeout."""

LATE_POLL_SECONDS = 0.5

NOT_ERASED = (
    "ids, names and times of the events, and a digest of their content, until EVENT_ID_DAYS have passed",
    "data stored by receivers: sentTo lists them",
    "backups and archived logs of PostgreSQL, until they are overwritten",
)

Pages = list[tuple[date, list[UUID]]]

T = TypeVar("T")


def erase(
    store: Annotated[str, typer.Option("--store", help="Code of the store.")],
    customer: Annotated[UUID, typer.Option("--customer", metavar="UUID", help="Customer id.")],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="File for the report; default: standard output.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the data to erase and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation prompt.")] = False,
) -> None:
    """Erase one customer's data: every event that names the id, the receivers' responses to it, and expiry rows. Open
    deliveries of these events are cancelled. This cannot be undone.

    Works on the database of DATABASE_URL, beside a running stack; it may be stopped and run again. First stop the
    platform from emitting events of the customer. docs/retention.md lists the data that remain.

    Exit code 0: no data of the customer remain here. 1: some remain; run it again.
    """
    if not (dry_run or yes):
        typer.confirm(f"Erase all data of customer {customer} in store {store}?", abort=True, err=True)
    found = in_database(lambda database: _work(database, store, customer, dry_run=dry_run))
    text = json.dumps(found, indent=2)
    if report is None:
        typer.echo(text)
    else:
        report.write_text(text + "\n", encoding="utf-8")
    if not dry_run and found["left"]:
        raise failed(f"{found['left']} events, responses or rows of the customer remain or are new; run it again.")


async def _work(database: Database, store: str, customer: UUID, *, dry_run: bool) -> dict[str, Any]:
    """Erase the customer's data, unless `dry_run`. Return the report."""
    async with database.transaction() as connection:
        if not await store_exists(connection, store):
            raise failed(f"There is no store {store}.", EXIT_USAGE)
    begun = datetime.now(UTC)
    pages, erased, left = await _pages(database, store, customer), Erased(), 0
    if not dry_run:
        for day, ids in _shown(pages, "Erasing"):
            async with database.transaction() as connection:
                await erase_events(connection, store, day, ids, erased)
        left = await _clear_late_answers(database, store, pages)
    async with database.transaction() as connection:
        for _, ids in pages:  # the attempts in flight have reached the log by now
            await look_at(connection, store, ids, erased)
        erased.expiry_rows = await expiry_rows_of_customer(connection, store, customer, erase=not dry_run)
        if not dry_run:
            await record(
                connection,
                actor=operator(),
                action="erase",
                object_type="customer",
                object_id=sha256(str(customer).encode()).hexdigest(),  # readers who know the id can match it
                store_code=store,
                changes={"events": len(erased.event_ids), "expiry_rows": erased.expiry_rows.total()},
            )
    if not dry_run:
        left += sum(len(ids) for _, ids in await _pages(database, store, customer, "Checking"))
        async with database.transaction() as connection:
            left += (await expiry_rows_of_customer(connection, store, customer, erase=False)).total()
    return {
        "storeCode": store,
        "customerId": str(customer),
        "dryRun": dry_run,
        "begunAt": begun.isoformat(),
        "finishedAt": datetime.now(UTC).isoformat(),
        "events": len(erased.event_ids),
        "eventIds": [str(event_id) for event_id in erased.event_ids],
        "deliveriesCancelled": erased.deliveries_cancelled,
        "attemptsCleared": erased.attempts_cleared,
        "expiryRows": dict(erased.expiry_rows),
        "sentTo": dict(erased.sent_to.most_common()),
        "left": left,
        "notErasedHere": list(NOT_ERASED),
    }


async def _pages(database: Database, store: str, customer: UUID, title: str = "Searching") -> Pages:
    """Return the events that name the customer, in pages of one day each."""
    async with database.transaction() as connection:
        where = await places(connection)
    found: dict[date, list[UUID]] = defaultdict(list)
    for place in _shown(where, title):
        async with database.transaction() as connection:
            for day, event_id in await events_of_customer(connection, store, customer, place):
                found[day].append(event_id)
    return [
        (day, found[day][first : first + PAGE]) for day in sorted(found) for first in range(0, len(found[day]), PAGE)
    ]


async def _clear_late_answers(database: Database, store: str, pages: Pages) -> int:
    """Clear the responses of attempts in flight as they arrive. Return the number that did not arrive in time."""
    deadline, left = time.monotonic() + read_settings().request_timeout_seconds + LATE_SECONDS, 0
    for day, ids in pages:
        while True:
            async with database.transaction() as connection:
                under_way = await clear_late_answers(connection, store, day, ids)
            if not under_way or time.monotonic() > deadline:
                left += under_way
                break
            await asyncio.sleep(LATE_POLL_SECONDS)
    return left


def _shown(things: list[T], title: str) -> Iterable[T]:
    console = Console(stderr=True)
    return track(things, title, console=console, transient=True, disable=not console.is_terminal)
