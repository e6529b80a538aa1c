"""Outbox notifications: debounced, and repeated on a new connection after the server has ended the old one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from storage.events import outbox
from storage.events.outbox import OUTBOX_CHANNEL, OutboxNotifier
from tests.deadlines import eventually
from tests.ground import Ground

DUE_SECONDS = 10
LONG_SECONDS = 600.0


@asynccontextmanager
async def heard_by_a_relay(ground: Ground) -> AsyncIterator[list[str]]:
    """The payloads of the notifications that a listening connection has received so far."""
    heard: list[str] = []
    listener = await ground.database.listener()
    await listener.add_listener(OUTBOX_CHANNEL, lambda *arguments: heard.append(arguments[-1]))
    yield heard
    await listener.close()


async def test_the_first_notification_goes_out_at_once_and_those_of_an_interval_together(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "NOTIFY_INTERVAL_SECONDS", LONG_SECONDS)
    notifier = OutboxNotifier(ground.database)
    async with heard_by_a_relay(ground) as heard:
        notifier.notify()
        await eventually(lambda: count_is(heard, 1), DUE_SECONDS, "the first notification")
        for _ in range(5):
            notifier.notify()
        await notifier.close()
        await eventually(lambda: count_is(heard, 2), DUE_SECONDS, "one notification for the other five, at the end")


async def test_a_notification_survives_the_end_of_its_connection_whatever_the_driver_raises(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that the server is just ending raises InternalClientError in about two of five cases."""
    monkeypatch.setattr(outbox, "NOTIFY_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "RECONNECT_SECONDS", 0.0)
    notifier = OutboxNotifier(ground.database)
    async with heard_by_a_relay(ground) as heard:
        notifier.notify()
        await eventually(lambda: count_is(heard, 1), DUE_SECONDS, "the first notification")
        for _ in range(30):
            before = len(heard)
            await ground.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query = :query",
                query=f"NOTIFY {OUTBOX_CHANNEL}",
            )
            notifier.notify()
            await eventually(lambda before=before: count_is(heard, before + 1), DUE_SECONDS, "notified again")
    await notifier.close()


async def count_is(heard: list[str], count: int) -> bool:
    return len(heard) == count
