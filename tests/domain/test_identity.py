"""Ids that are derived are the same wherever and however often they are derived, and differ where they must."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.delivery.identity import batch_workflow_id, event_workflow_id, message_id

EVENT = UUID("7d3a1b9e-0f5c-4a86-9b1e-2f6c8d4e7a10")
SUBSCRIPTION = UUID("11111111-2222-4333-8444-555555555555")


def test_a_message_id_never_changes_between_versions() -> None:
    # Receivers drop repeats by it, over upgrades too: these values may not change any more.
    assert message_id(EVENT, SUBSCRIPTION, "main") == UUID("85adf45c-c4ef-525a-bc39-bafb377f8efd")
    assert message_id(EVENT, SUBSCRIPTION, "automatic") == UUID("c5f4ffe1-fc35-57d3-9e8c-5cc95f392052")


@given(st.lists(st.tuples(st.uuids(), st.uuids(), st.sampled_from(["main", "automatic"])), unique=True, max_size=20))
def test_each_event_subscription_and_variant_has_a_message_id_of_its_own(
    parts: list[tuple[UUID, UUID, str]],
) -> None:
    assert len({message_id(*part) for part in parts}) == len(parts)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(("a", EVENT), ("b", EVENT), id="two stores"),
        pytest.param(("a", EVENT), ("a", SUBSCRIPTION), id="two events"),
    ],
)
def test_each_event_has_a_workflow_of_its_own(first: tuple[str, UUID], second: tuple[str, UUID]) -> None:
    assert event_workflow_id(*first) != event_workflow_id(*second)


def test_workflow_ids_read_as_documented() -> None:
    assert event_workflow_id("default", EVENT) == f"event/default/{EVENT}"
    assert batch_workflow_id(EVENT) == f"events/{EVENT}"


def test_no_store_can_give_its_event_the_id_of_a_batch() -> None:
    assert not event_workflow_id("s", EVENT).startswith("events/")
