"""Taking events in: commits shared by concurrent callers, repeats compared, and what refuses when it is too much.

A single emit does not wait for company: when nothing is being committed its transaction begins at once. Whatever
arrives while that transaction is under way shares the next one, so the busier it is, the more events a commit carries.
A batch is one transaction of its own, since it is taken whole or not at all.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import ApiError, Conflict, Unavailable
from api.events.backlog import BacklogGauge
from api.operations.metrics import ApiMetrics
from domain.wire.jsontext import differences, join, parse
from storage.database import Database
from storage.events.intake import (
    EventKey,
    NewEvent,
    StoredEvent,
    insert_events,
    stored_events,
)
from storage.events.notification import OutboxNotifier
from storage.sealing import SealBrokenError, Sealer
from storage.unavailable import is_unavailable

GROUP_EVENTS = 500  # a transaction of so many takes some 10 ms; more would make the first of them wait for the last
GROUP_BYTES = 4 * 1024 * 1024  # bounds one statement where events are large
WAITING_EVENTS = 10_000  # callers held in memory while the database is slow; above it they are sent away
COMMIT_SECONDS = 10.0  # a commit takes milliseconds; whoever waits longer than this has a hung database
DATABASE_RETRY_SECONDS = 1  # a server that died is back within seconds
DISK_FULL_RETRY_SECONDS = 30  # somebody has to make room first
BACKLOG_RETRY_SECONDS = 5  # a worker takes thousands of events in that time
DISK_FULL = "53100"
SINGLES_RECENT_SECONDS = 1.0  # after a single event batches go on giving way for so long
PAUSE_PER_BATCH = 2  # times what the last batch took
LONGEST_PAUSE_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class _Caller:
    event: NewEvent
    answer: asyncio.Future[bool]


class Intake:
    """Stores events. Both calls return only after the commit; they say of each event whether it was there already."""

    def __init__(
        self, database: Database, sealer: Sealer, notifier: OutboxNotifier, backlog: BacklogGauge, metrics: ApiMetrics
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._notifier = notifier
        self._backlog = backlog
        self._metrics = metrics
        self._waiting: dict[_Caller, None] = {}
        self._single_at = -SINGLES_RECENT_SECONDS
        self._batch_seconds = 0.0
        self._committing: asyncio.Task[None] | None = None

    async def accept(self, event: NewEvent) -> bool:
        """Store one event; True when it was there with the same content. Raises Conflict and Unavailable."""
        await self._refuse_overload()
        self._single_at = time.monotonic()
        caller = _Caller(event, asyncio.get_running_loop().create_future())
        self._waiting[caller] = None
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting(), name="intake")
        try:
            return await caller.answer
        finally:
            self._waiting.pop(caller, None)  # a caller who left before its commit began leaves nothing behind

    async def accept_all(self, events: Sequence[NewEvent]) -> list[bool]:
        """Store all of them in one transaction, or none: a Conflict names the index and the path of each difference."""
        await self._refuse_overload()
        await self._let_singles_first()
        try:
            outcomes = await self._store(events, whole=True)
        except Exception as error:
            raise _refusal(error) from error
        return [outcome is True for outcome in outcomes]

    async def _let_singles_first(self) -> None:
        """A batch waits while events come one by one too, for longer than the last one took: batches are many events'
        work for all that is behind the API, and who emits one event is not to wait for it."""
        if time.monotonic() - self._single_at < SINGLES_RECENT_SECONDS:
            await asyncio.sleep(min(PAUSE_PER_BATCH * self._batch_seconds, LONGEST_PAUSE_SECONDS))

    async def close(self) -> None:
        """Finish what was begun."""
        if self._committing is not None:
            await asyncio.wait([self._committing])

    async def _refuse_overload(self) -> None:
        if len(self._waiting) >= WAITING_EVENTS:
            raise Unavailable("Too many events wait for the database; send again later.", DATABASE_RETRY_SECONDS)
        try:
            backlog = await self._backlog.current()
        except Exception as error:
            raise _refusal(error) from error
        if backlog.events >= self._backlog.limit:
            raise Unavailable(
                f"{backlog.events:,} accepted events wait to be delivered, which is the limit; send again later.",
                BACKLOG_RETRY_SECONDS,
            )

    async def _commit_waiting(self) -> None:
        try:
            while group := self._next_group():
                await self._commit(group)
        finally:
            self._committing = None

    def _next_group(self) -> list[_Caller]:
        group: list[_Caller] = []
        size = 0
        for caller in islice(self._waiting, GROUP_EVENTS):
            size += len(caller.event.data)
            if group and size > GROUP_BYTES:
                break
            group.append(caller)
        for caller in group:
            del self._waiting[caller]
        return group

    async def _commit(self, group: Sequence[_Caller]) -> None:
        try:
            outcomes = await self._store([caller.event for caller in group], whole=False)
        except Exception as error:
            if len(group) > 1 and not is_unavailable(error):
                for caller in group:  # one of them cannot be stored; it alone shall hear of it
                    await self._commit([caller])
                return
            outcomes = [_refusal(error) for _ in group]
        except BaseException:
            for caller in group:
                caller.answer.cancel()
            raise
        for caller, outcome in zip(group, outcomes, strict=True):
            if caller.answer.done():
                continue
            if isinstance(outcome, bool):
                caller.answer.set_result(outcome)
            else:
                caller.answer.set_exception(outcome)

    async def _store(self, events: Sequence[NewEvent], *, whole: bool) -> list[bool | Exception]:
        """One transaction; each event's outcome is whether it was there, or its Conflict (raised when `whole`)."""
        began = time.perf_counter()
        try:
            outcomes = await self._attempt(events, whole=whole)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # The server was restarted since this connection was last used. Ids are fixed, so trying again is safe; had
            # the commit gone through before the connection broke, the events are found and called duplicates.
            outcomes = await self._attempt(events, whole=whole)
        took = time.perf_counter() - began
        if whole:
            self._batch_seconds = took
        self._metrics.commit_seconds.observe(took)
        self._metrics.commit_events.observe(len(events))
        self._notifier.notify()
        self._metrics.duplicates.inc(sum(outcome is True for outcome in outcomes))
        accepted = Counter(event.name for event, outcome in zip(events, outcomes, strict=True) if outcome is False)
        for name, count in accepted.items():
            self._metrics.accepted.labels(name).inc(count)
        return outcomes

    async def _attempt(self, events: Sequence[NewEvent], *, whole: bool) -> list[bool | Exception]:
        async with asyncio.timeout(COMMIT_SECONDS):
            if not whole:  # a statement is a transaction of its own: no round trips for BEGIN and COMMIT
                async with self._database.single_statements() as connection:
                    return await store(connection, events, self._sealer.open)
            async with self._database.transaction() as connection:
                outcomes = await store(connection, events, self._sealer.open)
                _refuse_whole(outcomes)
                return outcomes


async def store(
    connection: AsyncConnection, events: Sequence[NewEvent], unseal: Callable[[bytes], str]
) -> list[bool | Exception]:
    """Insert the events whose id is new; of each say False (stored now), True (there already) or its Conflict."""
    first: dict[EventKey, NewEvent] = {}
    for event in events:
        first.setdefault(event.key, event)
    inserted = await insert_events(connection, list(first.values()))
    if len(inserted) == len(events):
        return [False] * len(events)
    repeated = [event for event in events if event.key not in inserted or first[event.key] is not event]
    stored = await stored_events(connection, list({event.key for event in repeated}))
    outcomes: list[bool | Exception] = []
    for event in events:
        if event.key in inserted and first[event.key] is event:
            outcomes.append(False)
        elif event.key not in stored:  # there at the insert and gone at the look-up: erased in between
            outcomes.append(Unavailable("The event of this id was just erased; send again."))
        else:
            different = content_differences(event, stored[event.key], unseal)
            outcomes.append(_conflict(event, different) if different else True)
    return outcomes


def content_differences(event: NewEvent, stored: StoredEvent, unseal: Callable[[bytes], str]) -> list[str]:
    """Dotted paths at which an event differs from the stored one of its id; `createdAt` counts only when given.

    Raises SealBrokenError when the stored secrets cannot be opened.
    """
    paths = ["eventName"] if event.name != stored.name else []
    if event.created_at_text is not None and not _same_instant(event.created_at_text, stored.created_at_text):
        paths.append("createdAt")
    if event.digest != stored.digest or event.sealed_data is not None or stored.sealed_data is not None:
        came = event.data if event.sealed_data is None else unseal(event.sealed_data)
        had = stored.data if stored.sealed_data is None else unseal(stored.sealed_data)
        if had is None:  # the body is gone: the digest is all that can be compared
            paths += ["data"] if event.digest != stored.digest else []
        elif came != had:
            paths += [
                join("data", path) if path else "data"
                for path in differences(parse(came.encode()), parse(had.encode()))
            ]
    return paths


def _same_instant(one: str, other: str) -> bool:
    return one == other or datetime.fromisoformat(one) == datetime.fromisoformat(other)


def _conflict(event: NewEvent, paths: Sequence[str]) -> Conflict:
    return Conflict(f"Event {event.event_id} was accepted before with other content.", paths)


def _refuse_whole(outcomes: Sequence[bool | Exception]) -> None:
    """Raise what keeps a batch from being stored: its conflicts together, or any other error."""
    conflicts = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Conflict)}
    if conflicts:
        raise Conflict(
            "Events of the batch were accepted before with other content; none of the batch was stored.",
            [join(str(index), path) for index, conflict in conflicts.items() for path in conflict.differences or ()],
        )
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def _refusal(error: Exception) -> Exception:
    """What the caller is told: an ApiError for what passes by itself, other errors as they are."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SealBrokenError):
        return Unavailable(f"The event of this id cannot be compared: {error}.")
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == DISK_FULL:
        return Unavailable("The database's disk is full; nothing was accepted.", DISK_FULL_RETRY_SECONDS)
    if is_unavailable(error):
        return Unavailable("The database is not available; send again with the same eventId.", DATABASE_RETRY_SECONDS)
    return error
