"""`loyalty-webhooks erase`: erase one customer's data and report what was erased."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import track
from sqlalchemy.engine import URL, make_url

from commands.configuration import Installation, with_installation
from commands.database.connection import in_database, operator
from commands.terminal import EXIT_USAGE, counted, failed, json_wanted, say, show_json, show_table
from domain.delivery.timeouts import LONGEST_REQUEST_SECONDS
from storage.access.audit import record
from storage.access.stores import store_exists
from storage.database import Database
from storage.events.erasure import (
    PAGE,
    Erased,
    clear_late_answers,
    erase_events,
    erased_events,
    events_of_customer,
    expiry_rows_of_customer,
    look_at,
    places,
)

LATE_SECONDS = LONGEST_REQUEST_SECONDS + 15.0
"""Maximum wait for the outcome of an attempt in flight: the longest request, and its recording."""

LATE_POLL_SECONDS = 0.5

MOST_ROUNDS = 10
"""Maximum number of rounds, so that it ends beside a platform that goes on emitting the customer's events."""

NOT_ERASED = (
    "ids, names and times of the events, and a digest of their content, until EVENT_ID_DAYS have passed",
    "data stored by the receivers of the events, the URLs of sentTo",
    "backups and archived logs of PostgreSQL, until they are overwritten",
)

Pages = list[tuple[date, list[UUID]]]

T = TypeVar("T")


@with_installation
def erase(
    installation: Installation,
    store: Annotated[str, typer.Option("--store", help="Code of the store.")],
    customer: Annotated[UUID, typer.Option("--customer", metavar="UUID", help="Customer id.")],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="New file for the report as JSON.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the data to erase and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation prompt.")] = False,
) -> None:
    """Erase one customer's data: every event that names the id, the receivers' responses to it, and expiry rows. Open
    deliveries of these events are cancelled. This cannot be undone.

    Works beside a running stack and repeats itself until nothing is left, so first stop the platform from emitting
    events of the customer. It may be stopped and run again. Prints a summary; the report, with --report or --json,
    lists the ids of the events. docs/retention.md lists the data that remain.

    Exit code 0: no data of the customer remain here, or --dry-run has counted them. 1: some remain; run it again.
    """
    if not (dry_run or yes):
        url = make_url(installation.settings.database_url.get_secret_value())
        database = URL.create("postgresql", host=url.host, port=url.port, database=url.database)  # without credentials
        where = installation.data.root if installation.data else database
        typer.confirm(f"Erase all data of customer {customer} in store {store} of {where}?", abort=True, err=True)
    with _new_report(report):
        found = in_database(installation, lambda database: _work(database, store, customer, dry_run=dry_run))
    unwritten = None
    if report is not None:
        try:
            report.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            unwritten = error.strerror
    titles = ("events", "expiry rows", "responses", "deliveries cancelled", "left")
    counts = [found[name] for name in ("events", "expiryRows", "attemptsCleared", "deliveriesCancelled", "left")]
    counts[1] = sum(found["expiryRows"].values())
    show_table(titles, counts, facts=found)
    for url, number in found["sentTo"].items():
        say(f"Not erased at the receiver {url}: {counted(number, 'delivery', 'deliveries')}.")
    if unwritten is not None:
        if not json_wanted():
            show_json(found)
        raise failed(f"{report} could not be written: {unwritten}. Keep the report above.")
    if found["left"]:
        raise failed(f"Events, responses and rows of the customer left or new: {found['left']:,}. Run it again.")


@contextmanager
def _new_report(file: Path | None) -> Iterator[None]:
    """Create the file before the work, because no second run can report what this one erases, and remove it again if
    the work fails. A file that exists may be the only report of an earlier run: it ends the command."""
    if file is None:
        yield
        return
    try:
        file.open("x" if file.is_file() or not file.exists() else "a").close()  # "a": a device or a pipe
    except OSError as error:
        raise failed(f"{file} cannot be written: {error.strerror}. Nothing was done.", EXIT_USAGE) from None
    try:
        yield
    except BaseException:
        if file.is_file():
            file.unlink()
        raise


async def _work(database: Database, store: str, customer: UUID, *, dry_run: bool) -> dict[str, Any]:
    """Erase the customer's data, unless `dry_run`. Return the report."""
    if not await database.run(store_exists, store):
        raise failed(f"There is no store {store}.", EXIT_USAGE)
    begun, erased = datetime.now(UTC), Erased()
    for _ in range(MOST_ROUNDS):
        late, new = await _round(database, store, customer, erased, dry_run=dry_run)
        if not new:
            break
    if not dry_run:
        async with database.transaction() as connection:
            await record(
                connection,
                actor=operator(),
                action="erase",
                object_type="customer",
                object_id=sha256(str(customer).encode()).hexdigest(),  # readers who know the id can match it
                store_code=store,
                changes={"events": len(erased.event_ids), "expiry_rows": erased.expiry_rows.total()},
            )
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
        "left": None if dry_run else late + new,
        "notErasedHere": list(NOT_ERASED),
    }


async def _round(database: Database, store: str, customer: UUID, erased: Erased, *, dry_run: bool) -> tuple[int, int]:
    """Erase what is there. Return the number of responses that did not arrive in time, and of new events and rows."""
    pages, late = await _pages(database, store, customer), 0
    for day, ids in _shown(pages, "Counting" if dry_run else "Erasing"):
        async with database.transaction() as connection:
            await erase_events(connection, store, day, ids, erased)
            if dry_run:
                await connection.rollback()
    if not dry_run:
        # Those of earlier rounds and runs included, which may have ended before every response had arrived.
        every = _in_pages(await database.run(erased_events, store))
        late = await _clear_late_answers(database, store, every)
    async with database.transaction() as connection:
        for _, ids in pages:  # the attempts in flight have reached the log by now
            await look_at(connection, store, ids, erased)
        erased.expiry_rows.update(await expiry_rows_of_customer(connection, store, customer, erase=not dry_run))
    if dry_run:
        return 0, 0
    new = sum(len(ids) for _, ids in await _pages(database, store, customer, "Checking"))
    rows = await database.run(expiry_rows_of_customer, store, customer, erase=False)
    return late, new + rows.total()


async def _pages(database: Database, store: str, customer: UUID, title: str = "Searching") -> Pages:
    """Return the events that name the customer, in pages of one day each."""
    where = await database.run(places)
    found: list[tuple[date, UUID]] = []
    for place in _shown(where, title):
        found += await database.run(events_of_customer, store, customer, place)
    return _in_pages(found)


def _in_pages(events: Iterable[tuple[date, UUID]]) -> Pages:
    found: dict[date, list[UUID]] = defaultdict(list)
    for day, event_id in events:
        found[day].append(event_id)
    return [
        (day, found[day][first : first + PAGE]) for day in sorted(found) for first in range(0, len(found[day]), PAGE)
    ]


async def _clear_late_answers(database: Database, store: str, pages: Pages) -> int:
    """Clear the responses of attempts in flight as they arrive. Return the number that did not arrive in time."""
    deadline, left = time.monotonic() + LATE_SECONDS, 0
    for day, ids in pages:
        while True:
            under_way = await database.run(clear_late_answers, store, day, ids)
            if not under_way or time.monotonic() > deadline:
                left += under_way
                break
            await asyncio.sleep(LATE_POLL_SECONDS)
    return left


def _shown(things: list[T], title: str) -> Iterable[T]:
    console = Console(stderr=True)
    return track(things, title, console=console, transient=True, disable=not console.is_terminal)
