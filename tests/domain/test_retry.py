"""When the next attempt is: the schedule, its jitter, the receiver's `Retry-After`, and the end of the budget."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.delivery.retry import JITTER, SHORTEST_DELAY_SECONDS, retry_delay

DEFAULT = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
MESSAGE = UUID("0d3f6f0a-8a60-5f0b-9a0b-3d3c1f7f4f11")
DAY = 86400


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [
        pytest.param(1, 4.5, 5.5, id="5 s ± 10 %"),
        pytest.param(2, 270, 330, id="5 min ± 10 %"),
        pytest.param(3, 1620, 1980, id="30 min ± 10 %"),
        pytest.param(4, 6480, 7920, id="2 h ± 10 %"),
        pytest.param(5, 16200, 19800, id="5 h ± 10 %"),
        pytest.param(6, 32400, 39600, id="10 h ± 10 %"),
        pytest.param(7, 45360, 55440, id="14 h ± 10 %"),
        pytest.param(8, 64800, 79200, id="20 h ± 10 %"),
        pytest.param(9, 77760, 95040, id="24 h ± 10 %"),
    ],
)
def test_each_failure_has_its_delay_of_the_schedule(failures: int, least: float, most: float) -> None:
    for _ in range(200):
        delay = retry_delay(DEFAULT, failures, uuid4(), None)
        assert delay is not None
        assert least <= delay <= most


@pytest.mark.parametrize(
    ("schedule", "failures", "retry_after", "expected"),
    [
        pytest.param((60,), 1, 120, 120, id="a longer Retry-After wins"),
        pytest.param((60,), 1, 3, 3, id="a shorter Retry-After wins"),
        pytest.param((60,), 1, 0.2, SHORTEST_DELAY_SECONDS, id="a Retry-After under a second is a second"),
        pytest.param((60,), 1, DAY, DAY, id="a day is honoured"),
        pytest.param((60, 60), 2, 120, 120, id="at the last delay too"),
        pytest.param((60,), 2, 120, None, id="Retry-After does not lengthen the budget"),
        pytest.param((60,), 2, None, None, id="one delay is one retry"),
        pytest.param((), 1, None, None, id="an empty schedule retries nothing"),
        pytest.param((), 1, 120, None, id="an empty schedule retries nothing whatever the receiver says"),
        pytest.param((60,), 99, None, None, id="a schedule that was shortened meanwhile is used up"),
        pytest.param((0,), 1, None, 0, id="a delay of nothing has no jitter"),
    ],
)
def test_the_table_of_the_unusual(
    schedule: tuple[int, ...], failures: int, retry_after: float | None, expected: float | None
) -> None:
    assert retry_delay(schedule, failures, MESSAGE, retry_after) == expected


@given(st.uuids(), st.integers(1, len(DEFAULT)))
def test_the_same_failure_of_the_same_message_always_has_the_same_delay(message_id: UUID, failures: int) -> None:
    assert retry_delay(DEFAULT, failures, message_id, None) == retry_delay(list(DEFAULT), failures, message_id, None)


@given(st.uuids(), st.integers(1, len(DEFAULT)))
def test_no_message_leaves_the_band(message_id: UUID, failures: int) -> None:
    delay = retry_delay(DEFAULT, failures, message_id, None)
    assert delay is not None
    assert DEFAULT[failures - 1] * (1 - JITTER) <= delay <= DEFAULT[failures - 1] * (1 + JITTER)


def test_what_failed_together_comes_back_spread_over_the_whole_band() -> None:
    delays = [retry_delay((1000,), 1, uuid4(), None) or 0 for _ in range(2000)]
    tenths = [sum(900 + 20 * tenth <= delay < 920 + 20 * tenth for delay in delays) for tenth in range(10)]
    assert min(tenths) > 100, tenths  # 200 each were they even; under 100 is no chance


def test_one_message_does_not_draw_the_same_lot_at_every_failure() -> None:
    lots = {round((retry_delay((1000,) * 9, failures, MESSAGE, None) or 0), 3) for failures in range(1, 10)}
    assert len(lots) == 9
