"""Ledgers made by hand."""

from uuid import NAMESPACE_URL, uuid5

from tests.chaos.ledger import Arrival, Disturbance, Emitted, Ledger

PATH, EVENT = "/plain", "CustomerUpdated"


def emitted(event_id: str = "1", sent_at: float = 0.0, accepted_at: float | None = None) -> Emitted:
    """An event that was accepted at once."""
    return Emitted(event_id, EVENT, sent_at, sent_at + 0.01 if accepted_at is None else accepted_at)


def arrival(
    event_id: str = "1",
    at: float = 1.0,
    seconds: float = 0.001,
    *,
    kind: str = "ok",
    status: int | None = 200,
    told: bool = True,
    retry_after: int | None = None,
    message_id: str | None = None,
) -> Arrival:
    """A request, answered well unless said otherwise."""
    name = message_id or str(uuid5(NAMESPACE_URL, event_id))
    return Arrival(PATH, event_id, name, at, at + seconds, kind, status, retry_after, told)


def failed(event_id: str = "1", at: float = 1.0, *, retry_after: int | None = None) -> Arrival:
    """A request that was answered with a failure."""
    kind, status = ("error", 500) if retry_after is None else ("busy", 429)
    return arrival(event_id, at, kind=kind, status=status, retry_after=retry_after)


def ledger(events: list[Emitted], arrivals: list[Arrival], *disturbances: Disturbance) -> Ledger:
    """A ledger of one subscription."""
    return Ledger(tuple(events), tuple(arrivals), disturbances, {EVENT: (PATH,)})


def killed(target: str, at: float) -> Disturbance:
    """A kill."""
    return Disturbance("kill", target, at, at)
