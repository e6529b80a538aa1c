"""How the relay paces itself: who is busy, and how much a batch holds."""

import time

from activities.gate import Way
from relay import QUIET_SECONDS, Pace


def test_a_store_that_emits_steadily_more_than_may_go_singly_is_busy_until_it_rests() -> None:
    pace = Pace()
    now = time.monotonic()
    for step in range(100):  # of 50 ms: 20 a second of one store, 200 of the other
        pace.took_of("small", 1)
        pace.took_of("steady", 10)
        assert pace.busy_stores(now + step / 20) == (["steady"] if step else [])
    assert pace.busy_stores(now + 5 + 1) == []


def test_batches_of_a_busy_store_hold_less_for_a_while_after_a_quiet_ones_event() -> None:
    pace = Pace()
    now = time.monotonic()
    assert pace.share(Way.BATCH, now) == 1
    for way in (Way.SINGLE, Way.MIXED):
        pace.took(way, now, full=False)
        assert pace.share(Way.BATCH, now) < 1
        assert pace.share(Way.MIXED, now) == 1
        now += QUIET_SECONDS
        assert pace.share(Way.BATCH, now) == 1
    pace.took(Way.BATCH, now, full=True)
    assert pace.share(Way.BATCH, now) == 1
