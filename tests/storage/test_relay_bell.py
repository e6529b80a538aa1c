"""The bell that wakes relays: who emits one event does not wait for the interval that a batch began."""

import pytest

from storage.events import notification as relay_bell
from storage.events.notification import Emitted, RelayBell
from storage.events.outbox import OUTBOX_CHANNEL
from tests.deadlines import eventually
from tests.ground import Ground

DUE_SECONDS = 10
LONG_SECONDS = 600.0


async def test_a_single_events_ring_does_not_wait_out_the_interval_of_a_batchs(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_bell, "INTERVAL_SECONDS", LONG_SECONDS)
    rung: list[str] = []
    listener = await ground.database.listener()
    await listener.add_listener(OUTBOX_CHANNEL, lambda *_: rung.append(OUTBOX_CHANNEL))
    bell = RelayBell(ground.database)

    async def heard(times: int) -> bool:
        return len(rung) == times

    bell.ring(Emitted.TOGETHER)
    await eventually(lambda: heard(1), DUE_SECONDS, "the batch's ring")
    bell.ring(Emitted.SINGLY)
    await eventually(lambda: heard(2), DUE_SECONDS, "the single event's ring")
    bell.ring(Emitted.SINGLY)  # has its own interval
    bell.ring(Emitted.TOGETHER)
    await bell.close()
    await eventually(lambda: heard(3), DUE_SECONDS, "what was asked for before the end")
    await listener.close()
