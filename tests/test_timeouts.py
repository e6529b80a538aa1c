"""What follows from the longest request agrees, in the code and in the files that cannot read the code."""

from math import ceil

import pytest
from pydantic import ValidationError

from activities.deliver import FIRST_ATTEMPTS_SECONDS
from api.subscriptions.models import SubscriptionCreate
from domain.delivery.notices import NOTICES_A_ROUND
from domain.delivery.retry import JITTER
from domain.delivery.timeouts import (
    ATTEMPT_SECONDS,
    LONGEST_LEASE_SECONDS,
    LONGEST_REQUEST_SECONDS,
    WORKER_STOP_SECONDS,
)
from relay.relay import STOP_SECONDS
from sending.dispatcher import OLDEST_INTENT_SECONDS
from settings import Settings
from storage.deliveries.retries import MOST_OF_A_SUBSCRIPTION
from telemetry.export import CLOSE_SECONDS
from temporal.namespace import DEFAULT_RETENTION_DAYS
from temporal.starts import DRAFT_TEST_TIMEOUT
from tests.pipeline import settings_for
from tests.test_compose import SERVICES
from tests.test_kubernetes import SETTINGS_MAP, pod
from workflows import deliver, drain, notices

FIELDS = Settings.model_fields


def test_a_stopping_worker_is_killed_only_after_its_longest_request() -> None:
    grace = FIELDS["shutdown_grace_seconds"].default
    assert grace > LONGEST_REQUEST_SECONDS
    # In turn: the relay, the workflows' tasks, the attempts; then the spans that were not sent.
    assert STOP_SECONDS + grace + grace + CLOSE_SECONDS < WORKER_STOP_SECONDS
    assert SERVICES["worker"]["stop_grace_period"] == f"{WORKER_STOP_SECONDS}s"
    assert pod("worker")["terminationGracePeriodSeconds"] == WORKER_STOP_SECONDS
    assert "SHUTDOWN_GRACE_SECONDS" not in {*SERVICES["worker"]["environment"], *SETTINGS_MAP}


def test_every_activity_outlasts_its_longest_request() -> None:
    """With default settings. With fewer requests at once, an attempt outlasts its activity and is joined by the next
    (`tests/activities/test_retry.py`)."""
    turns = 1 + ceil(MOST_OF_A_SUBSCRIPTION / FIELDS["subscription_concurrency"].default)
    assert turns * LONGEST_REQUEST_SECONDS <= ATTEMPT_SECONDS
    assert drain.ROUND_TIMEOUT.total_seconds() > 2 * LONGEST_REQUEST_SECONDS
    assert notices.ROUND_TIMEOUT.total_seconds() > NOTICES_A_ROUND * LONGEST_REQUEST_SECONDS
    assert DRAFT_TEST_TIMEOUT.total_seconds() > LONGEST_REQUEST_SECONDS
    assert deliver.FIRST_ATTEMPTS_TIMEOUT.total_seconds() > FIRST_ATTEMPTS_SECONDS


def test_temporal_keeps_a_retry_for_longer_than_its_schedule_may_take() -> None:
    schedule = sum(FIELDS["retry_schedule_seconds"].default) * (1 + JITTER)
    assert schedule < DEFAULT_RETENTION_DAYS * 86_400


def test_a_lease_outlasts_the_longest_queue_and_the_longest_request() -> None:
    assert OLDEST_INTENT_SECONDS + LONGEST_REQUEST_SECONDS < LONGEST_LEASE_SECONDS


def test_no_request_may_take_longer() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 30"):
        settings_for("postgresql://unused", request_timeout_seconds=LONGEST_REQUEST_SECONDS + 1)
    schema = SubscriptionCreate.model_json_schema()["properties"]["timeoutSeconds"]["anyOf"][0]
    assert (schema["minimum"], schema["maximum"]) == (1, LONGEST_REQUEST_SECONDS)
