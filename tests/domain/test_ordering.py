"""Which deliveries of a subscription ordered by customer wait for each other."""

import json
from uuid import UUID, uuid4

import pytest

from domain.delivery.ordering import CUSTOMER_PATHS, ordering_key_of
from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump

SUBSCRIPTION = UUID("133a1093-b512-492d-bb41-1a4063cd8028")
OF_NO_CUSTOMER = {
    *("AchievementCreated", "AchievementUpdated", "CampaignCreated", "CampaignUpdated", "RewardCreated"),
    *("RewardUpdated", "SegmentMembershipDropped", "TransactionRegistered"),
    "AchievementsWereProcessed",  # of many
}
NO_LINE = ordering_key_of(SUBSCRIPTION, "{}")


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_event_of_a_customer_is_in_the_customers_line(name: str) -> None:
    found = ordering_key_of(SUBSCRIPTION, dump(CATALOGUE[name].sample))
    assert (found == NO_LINE) is (name in OF_NO_CUSTOMER)


@pytest.mark.parametrize("path", CUSTOMER_PATHS, ids=".".join)
def test_a_customer_has_one_line_wherever_the_event_has_it(path: tuple[str, ...]) -> None:
    customer = "0a1b2c3d-4e5f-4061-8273-8495a6b7c8d9"
    data: object = customer.upper()
    for step in reversed(path):
        data = {step: data}
    expected = ordering_key_of(
        SUBSCRIPTION, json.dumps({"customer": {"customerId": customer, "email": "a@example.com"}})
    )
    assert ordering_key_of(SUBSCRIPTION, json.dumps(data)) == expected != NO_LINE


@pytest.mark.parametrize("data", ["[]", "null", '{"customer":[]}', '{"customer":{"customerId":7}}', "{", None])
def test_what_names_no_customer_is_one_line(data: str | None) -> None:
    assert ordering_key_of(SUBSCRIPTION, data) == NO_LINE


def test_a_line_tells_nothing_of_its_customer_beyond_its_subscription() -> None:
    data = '{"customer":{"customerId":"0a1b2c3d-4e5f-4061-8273-8495a6b7c8d9"}}'
    assert ordering_key_of(SUBSCRIPTION, data) == -7830094909187282698, "what is stored stays in its line"
    assert ordering_key_of(uuid4(), data) != ordering_key_of(SUBSCRIPTION, data)
