"""Event intake: group commit of concurrent emits, comparison of repeated events, and load shedding.

A single emit is never delayed to fill a group: if no commit is in progress, its transaction begins at once. Events that
arrive during that transaction share the next one, so a commit carries more events the higher the load. A batch is a
transaction of its own, because it is stored whole or not at all.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import ApiError, Conflict, Unavailable
from api.events.backlog import BacklogGauge
from api.operations.metrics import ApiMetrics
from domain.wire.jsontext import differences, join, parse
from storage.database import Database
from storage.events.intake import EventKey, NewEvent, StoredEvent, insert_events, stored_events
from storage.events.outbox import OutboxNotifier
from storage.sealing import SealBrokenError, Sealer
from storage.unavailable import is_unavailable

GROUP_EVENTS = 500
"""Maximum number of events per group commit. Such a transaction takes some 10 ms; more would delay its first events."""

GROUP_BYTES = 4 * 1024 * 1024
"""Maximum size of a group commit. Limits one statement where events are large."""

WAITING_EVENTS = 10_000
"""Maximum number of events waiting in memory while the database is slow. Further events are refused."""

COMMIT_SECONDS = 10.0
"""Timeout of a commit. A commit takes milliseconds, so the database hangs if it takes longer."""

DATABASE_RETRY_SECONDS = 1
"""Retry-After while the database is down. A server that died is back within seconds."""

DISK_FULL_RETRY_SECONDS = 30
"""Retry-After while the database's disk is full: an operator has to free space first."""

BACKLOG_RETRY_SECONDS = 5
"""Retry-After at the backlog limit. A worker processes thousands of events in this time."""

DISK_FULL = "53100"
"""SQLSTATE of PostgreSQL for a full disk."""

SINGLES_RECENT_SECONDS = 1.0
"""Time after a single event during which batches yield to single events."""

PAUSE_PER_BATCH = 2
"""Pause before a batch, as a multiple of the duration of the last batch."""

LONGEST_PAUSE_SECONDS = 0.1
"""Maximum pause before a batch."""


class Intake:
    """Stores events. Both methods return after the commit, with True for each event that was stored already."""

    def __init__(
        self, database: Database, sealer: Sealer, notifier: OutboxNotifier, backlog: BacklogGauge, metrics: ApiMetrics
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._notifier = notifier
        self._backlog = backlog
        self._metrics = metrics
        self._waiting: dict[asyncio.Future[bool], NewEvent] = {}
        """Events by the answer that their caller awaits."""
        self._single_at = -SINGLES_RECENT_SECONDS
        self._batch_seconds = 0.0
        self._committing: asyncio.Task[None] | None = None

    async def accept(self, event: NewEvent) -> bool:
        """Store one event. Return True if it was stored already with the same content. Raises Conflict, Unavailable."""
        await self._refuse_overload()
        self._single_at = time.monotonic()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = event
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting(), name="intake")
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)  # a caller cancelled before its commit began stores nothing

    async def accept_all(self, events: Sequence[NewEvent]) -> list[bool]:
        """Store all events or none, in one transaction. Raises Conflict with the path of each difference below its
        index, Unavailable.
        """
        await self._refuse_overload()
        if time.monotonic() - self._single_at < SINGLES_RECENT_SECONDS:
            # A batch is much work for everything behind the API, which would delay the single events.
            await asyncio.sleep(min(PAUSE_PER_BATCH * self._batch_seconds, LONGEST_PAUSE_SECONDS))
        try:
            outcomes = await self._store(events, whole=True)
        except Exception as error:
            raise _refusal(error) from error
        return [outcome is True for outcome in outcomes]

    async def close(self) -> None:
        """Wait for the commits in progress."""
        if self._committing is not None:
            await asyncio.wait([self._committing])

    async def _refuse_overload(self) -> None:
        if len(self._waiting) >= WAITING_EVENTS:
            raise Unavailable("Too many events are waiting for the database; send again later.", DATABASE_RETRY_SECONDS)
        try:
            backlog = await self._backlog.current()
        except Exception as error:
            raise _refusal(error) from error
        if backlog.events >= self._backlog.limit:
            raise Unavailable(
                f"{backlog.events:,} accepted events wait for a worker, and no more are accepted; send again later.",
                BACKLOG_RETRY_SECONDS,
            )

    async def _commit_waiting(self) -> None:
        try:
            while group := self._next_group():
                await self._commit(group)
        finally:
            self._committing = None

    def _next_group(self) -> dict[asyncio.Future[bool], NewEvent]:
        group: dict[asyncio.Future[bool], NewEvent] = {}
        size = 0
        for answer, event in islice(self._waiting.items(), GROUP_EVENTS):
            size += len(event.data)
            if group and size > GROUP_BYTES:
                break
            group[answer] = event
        for answer in group:
            del self._waiting[answer]
        return group

    async def _commit(self, group: Mapping[asyncio.Future[bool], NewEvent]) -> None:
        try:
            outcomes = await self._store(list(group.values()), whole=False)
        except Exception as error:
            if len(group) > 1 and not is_unavailable(error):
                # An event cannot be stored: commit each alone, so that only its caller gets the error.
                for answer, event in group.items():
                    await self._commit({answer: event})
                return
            outcomes = [_refusal(error) for _ in group]
        except BaseException:
            for answer in group:
                answer.cancel()
            raise
        for answer, outcome in zip(group, outcomes, strict=True):
            if answer.done():
                continue
            if isinstance(outcome, bool):
                answer.set_result(outcome)
            else:
                answer.set_exception(outcome)

    async def _store(self, events: Sequence[NewEvent], *, whole: bool) -> list[bool | Exception]:
        """Store the events in one transaction. Return True (stored already), False or a Conflict for each event; with
        `whole`, raise a Conflict instead.
        """
        began = time.perf_counter()
        # Ids are fixed, so a repetition is safe: if the commit succeeded before the connection broke, the events are
        # found and reported as duplicates.
        outcomes = await self._database.repeated(partial(self._attempt, events, whole=whole), len(events))
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
            if not whole:  # autocommit saves the round trips for BEGIN and COMMIT
                async with self._database.single_statements() as connection:
                    return await store(connection, events, self._sealer.open)
            async with self._database.transaction() as connection:
                outcomes = await store(connection, events, self._sealer.open)
                _refuse_whole(outcomes)
                return outcomes


async def store(
    connection: AsyncConnection, events: Sequence[NewEvent], unseal: Callable[[bytes], str]
) -> list[bool | Exception]:
    """Insert the events with new ids. Return False (stored now), True (stored already) or a Conflict for each."""
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
        elif event.key not in stored:  # erased between the insert, which found it, and the look-up
            outcomes.append(Unavailable("The event of this id was just erased; send again."))
        else:
            different = content_differences(event, stored[event.key], unseal)
            await asyncio.sleep(0)  # each comparison parses two events
            message = f"Event {event.event_id} was accepted before with different content."
            outcomes.append(Conflict(message, different) if different else True)
    return outcomes


def content_differences(event: NewEvent, stored: StoredEvent, unseal: Callable[[bytes], str]) -> list[str]:
    """Return the dotted paths at which an event differs from the stored event; `createdAt` counts only if given.

    Raises SealBrokenError if the stored secrets cannot be decrypted.
    """
    paths = ["eventName"] if event.name != stored.name else []
    given, kept = event.created_at_text, stored.created_at_text
    if given and given != kept and datetime.fromisoformat(given) != datetime.fromisoformat(kept):
        paths.append("createdAt")
    if event.digest != stored.digest or event.sealed_data is not None or stored.sealed_data is not None:
        came = event.data if event.sealed_data is None else unseal(event.sealed_data)
        had = stored.data if stored.sealed_data is None else unseal(stored.sealed_data)
        if had is None:  # the stored body was deleted, so only the digests can be compared
            paths += ["data"] if event.digest != stored.digest else []
        elif came != had:
            different = differences(parse(came.encode()), parse(had.encode()))
            paths += [join("data", path) if path else "data" for path in different]
    return paths


def _refuse_whole(outcomes: Sequence[bool | Exception]) -> None:
    """Raise the conflicts of a batch as one Conflict, or its first other error, so that none of it is stored."""
    conflicts = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Conflict)}
    if conflicts:
        raise Conflict(
            "Events of the batch were accepted before with different content; none of the batch was stored.",
            [join(str(index), path) for index, conflict in conflicts.items() for path in conflict.differences or ()],
        )
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def _refusal(error: Exception) -> Exception:
    """Return an ApiError for a known or temporary failure, and any other error unchanged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SealBrokenError):
        return Unavailable(f"The event of this id cannot be compared: {error}.")
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == DISK_FULL:
        return Unavailable("The database's disk is full; nothing was accepted.", DISK_FULL_RETRY_SECONDS)
    if is_unavailable(error):
        return Unavailable("The database is not available; send again with the same eventId.", DATABASE_RETRY_SECONDS)
    return error
