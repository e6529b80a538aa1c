"""Rows of a long delivery log, as an installation leaves them that has run for weeks: most is delivered at once, some
receivers are slow, some fail now and then, one has been down for hours."""

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.delivery.identity import drain_workflow_id, event_workflow_id, message_id
from domain.events.catalogue import CATALOGUE, mask_secrets
from domain.wire.jsontext import dump
from storage.events.intake import content_digest

SEED = 6
OUTAGE_HOURS = 6
"""For so long the last subscription's receiver has been down; what came since is held."""

RETRY_SECONDS = (5, 300, 1800, 7200)
DAYS_RHYTHM = 0.6  # by how much the busiest hour of a day is above, and the quietest below, the mean
SHARED = 0.2  # of events that go to a second subscription

EVENT_COLUMNS = (
    "store_code", "event_id", "name", "created_at", "created_at_text", "accepted_at", "digest", "matched_at",
    "workflow_id",
)  # fmt: skip
BODY_COLUMNS = ("accepted_on", "store_code", "event_id", "data")
DELIVERY_COLUMNS = (
    "accepted_on", "message_id", "store_code", "event_id", "event_name", "subscription_id", "variant", "url", "status",
    "reason", "attempts", "failures", "last_status_code", "last_failure", "next_attempt_at", "workflow_id",
    "created_at", "ended_at",
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "accepted_on", "message_id", "number", "request_id", "trigger", "worker_id", "legacy", "started_at", "outcome_at",
    "duration_ms", "status_code", "failure", "detail", "response_excerpt",
)  # fmt: skip


@dataclass(frozen=True)
class Destination:
    """A subscription, and how its receiver behaves."""

    id: UUID
    store_code: str
    event_name: str
    url: str
    succeeds: float
    """Share of attempts that do."""
    median_ms: float
    down: bool = False


@dataclass
class Chunk:
    """Rows of the four tables, in the order of their columns above."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    bodies: list[tuple[Any, ...]] = field(default_factory=list)
    deliveries: list[tuple[Any, ...]] = field(default_factory=list)
    attempts: list[tuple[Any, ...]] = field(default_factory=list)


def subscription_id(number: int) -> UUID:
    """Of the subscription of that number, from 1, over all stores."""
    return UUID(f"00000000-0000-4000-8000-{number:012x}")


def destinations(store_code: str, names: Sequence[str], first: int, count: int) -> list[Destination]:
    """`count` subscriptions of a store, numbered from `first`. One in twelve fails now and then, the last is down."""
    found = []
    for number in range(first, first + count):
        down = count > 1 and number == first + count - 1
        found.append(
            Destination(
                subscription_id(number),
                store_code,
                names[number % len(names)],
                f"https://receiver-{number}.example.com/hooks/loyalty?tenant={number}",
                succeeds=0.85 if number % 12 == 7 else 0.996,
                median_ms=15.0 + 12 * (number % 20),
                down=down,
            )
        )
    return found


class LogWriter:
    """Makes the rows; the same for the same arguments but for `now`."""

    def __init__(self, destinations: Sequence[Destination], total: int, days: float, now: datetime) -> None:
        self._chance = random.Random(SEED)
        self._destinations = destinations
        self._total = total
        self._span = timedelta(days=days)
        self._days = days
        self._now = now
        self._by_name: dict[tuple[str, str], list[Destination]] = defaultdict(list)
        for one in destinations:
            self._by_name[one.store_code, one.event_name].append(one)
        names = {one.event_name for one in destinations}
        samples = {name: mask_secrets(CATALOGUE[name], CATALOGUE[name].sample) for name in names}
        self._data = {name: (dump(data), content_digest(name, data)) for name, data in samples.items()}
        self._workers = [self._uuid() for _ in range(2)]

    def chunks(self, size: int) -> Iterator[Chunk]:
        """All deliveries in the order of their creation, about `size` at a time."""
        made = 0
        chunk = Chunk()
        while made < self._total:
            at = self._instant(made / self._total)
            first = self._destinations[int(self._chance.random() ** 2 * len(self._destinations))]
            chosen = [first]
            same = self._by_name[first.store_code, first.event_name]
            if len(same) > 1 and made + 1 < self._total and self._chance.random() < SHARED:
                chosen.append(same[(same.index(first) + 1) % len(same)])
            event_id = self._event(chunk, first, at)
            for one in chosen:
                self._delivery(chunk, one, event_id, at)
            made += len(chosen)
            if len(chunk.deliveries) >= size:
                yield chunk
                chunk = Chunk()
        yield chunk

    def _uuid(self) -> UUID:
        return UUID(int=self._chance.getrandbits(128), version=4)

    def _instant(self, part: float) -> datetime:
        """Where in the span that part of the deliveries ends: in order, with a daily rhythm."""
        wave = DAYS_RHYTHM * math.sin(2 * math.pi * part * self._days) / (2 * math.pi * max(self._days, 1))
        return self._now - self._span * (1 - min(max(part + wave, 0.0), 1.0))

    def _event(self, chunk: Chunk, destination: Destination, at: datetime) -> UUID:
        event_id = self._uuid()
        data, digest = self._data[destination.event_name]
        workflow_id = event_workflow_id(destination.store_code, event_id)
        chunk.events.append(
            (destination.store_code, event_id, destination.event_name, at, at.strftime("%Y-%m-%dT%H:%M:%SZ"), at,
             digest, at, workflow_id)
        )  # fmt: skip
        chunk.bodies.append((at.date(), destination.store_code, event_id, data))
        return event_id

    def _delivery(self, chunk: Chunk, destination: Destination, event_id: UUID, at: datetime) -> None:
        identity = message_id(event_id, destination.id, "main")
        number = failures = 0
        status, reason, code, failure, next_at, ended_at = "pending", None, None, None, None, None
        workflow_id = event_workflow_id(destination.store_code, event_id)
        begun = at + timedelta(milliseconds=8)
        if destination.down and at > self._now - timedelta(hours=OUTAGE_HOURS):
            status, reason, workflow_id = "held", "breaker_open", drain_workflow_id(destination.id)
        elif self._chance.random() < 0.001:
            status, reason, ended_at = "cancelled", "cancelled_by_person", begun
        while status == "pending":
            number += 1
            code, failure, outcome_at = self._attempt(chunk, destination, (at.date(), identity, number), begun)
            if failure is None:
                status, ended_at = "delivered", outcome_at
            elif failures == len(RETRY_SECONDS):
                status, reason, ended_at = "exhausted", "schedule_used_up", outcome_at
            else:
                begun = outcome_at + timedelta(seconds=RETRY_SECONDS[failures])
            failures += failure is not None
            if status == "pending" and begun > self._now:
                next_at = begun
                break
        chunk.deliveries.append(
            (at.date(), identity, destination.store_code, event_id, destination.event_name, destination.id, "main",
             destination.url, status, reason, number, failures, code, failure, next_at, workflow_id, at, ended_at)
        )  # fmt: skip

    def _attempt(
        self, chunk: Chunk, destination: Destination, key: tuple[date, UUID, int], at: datetime
    ) -> tuple[int | None, str | None, datetime]:
        """(status code, failure, when it ended) of one attempt; what failed once fails more often than not."""
        chance = self._chance
        number = key[2]
        succeeds = destination.succeeds if number == 1 else 0.4
        duration = min(15_000, int(destination.median_ms * math.exp(chance.gauss(0, 0.5))) + 1)
        code: int | None = 200
        failure = detail = None
        excerpt: str | None = '{"ok":true}'
        if chance.random() >= succeeds:
            kind = chance.random()
            if kind < 0.7:
                code, failure, excerpt = 503, "http_5xx", "<h1>Service Unavailable</h1>"
            elif kind < 0.9:
                code, failure, excerpt, duration = None, "timeout", None, 15_000
            else:
                code, failure, excerpt, detail = None, "connect", None, "connection refused"
        outcome_at = at + timedelta(milliseconds=duration)
        chunk.attempts.append(
            (*key, self._uuid(), "automatic", self._workers[number % 2], False, at, outcome_at, duration,
             code, failure, detail, excerpt)
        )  # fmt: skip
        return code, failure, outcome_at


def now() -> datetime:
    """Where the log ends."""
    return datetime.now(UTC)
