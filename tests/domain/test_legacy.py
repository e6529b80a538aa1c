"""Legacy bodies are those of the contract's table: types, keys in order, numbers, dates and what stands for nothing."""

import re
from typing import Any
from uuid import UUID

import pytest

from domain.events.catalogue import CATALOGUE, validate_data
from domain.events.examples import example_facts
from domain.wire.bodies import EventFacts, legacy_body, variants
from domain.wire.jsontext import dump, parse
from tests.contract.tables import LEGACY_FORMS


def legacy(name: str, data: Any, variant: str = "main", timezone: str = "Europe/Warsaw") -> Any:
    """The parsed legacy body; `data` is a value or JSON text."""
    value = parse(data.encode()) if isinstance(data, str) else data
    assert validate_data(CATALOGUE[name], value) == []
    facts = EventFacts(UUID(int=1), name, "shop-7", "2026-01-02T03:04:05Z", dump(value))
    return parse(legacy_body(facts, variant, timezone))


def notation(value: Any) -> str:
    """Keys as the contract writes them: `a{b,c}` for an object, `a[{b}]` for a list of objects."""
    if isinstance(value, dict):
        return "{" + ",".join(key + notation(member) for key, member in value.items()) + "}"
    return f"[{notation(value[0])}]" if isinstance(value, list) else ""


def test_the_table_has_every_legacy_form() -> None:
    forms = {
        (name, variant)
        for name, event_type in CATALOGUE.items()
        for variant in variants(name, example_facts(event_type).data_text, legacy=True)
    }
    assert forms == set(LEGACY_FORMS)


@pytest.mark.parametrize(("name", "variant"), LEGACY_FORMS)
def test_type_and_keys_stand_as_in_the_table_when_every_field_is_given(name: str, variant: str) -> None:
    type_, keys = LEGACY_FORMS[name, variant]
    body = legacy(name, CATALOGUE[name].sample, variant)
    assert body["type"] == type_
    assert notation(body["data"]) == keys
    envelope = ["type", "createdAt", "data"] if name == "CustomerBoughtReward" else ["type", "data"]
    assert list(body) == envelope


@pytest.mark.parametrize(("name", "variant"), LEGACY_FORMS)
def test_the_same_keys_stand_there_when_nothing_is_given(name: str, variant: str) -> None:
    type_, keys = LEGACY_FORMS[name, variant]
    body = legacy(name, {}, variant)
    keys = re.sub(r"(items|labels)\[.*?\}\]", r"\1[]", keys.replace("labels[{key,value}]", "labels[]"))
    assert body["type"] == type_
    assert _notation_of_nothing(body["data"]) == keys.replace("company{name,nip},", "")


def _notation_of_nothing(value: Any) -> str:
    """As `notation`; what is no object or list has to be null, or "" where the contract says so."""
    if isinstance(value, dict):
        assert all(member in (None, "", "shop-7") or isinstance(member, dict | list) for member in value.values())
        return "{" + ",".join(key + _notation_of_nothing(member) for key, member in value.items()) + "}"
    return f"[{''.join(map(_notation_of_nothing, value))}]" if isinstance(value, list) else ""


NUMBERS = [
    ("80", "80"),
    ("80.0", "80"),
    ("80.50", "80.5"),
    ("-0", "0"),
    ("-0.00", "0"),
    ("0E+5", "0"),
    ("1E+2", "100"),
    ("1.5e1", "15"),
    ("1e-7", "0.0000001"),
    ("-12.340", "-12.34"),
    ("100", "100"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("0.123456789012345678901234567890", "0.12345678901234567890123456789"),
    ("12345678901234567890.10", "12345678901234567890.1"),
    ("1E+30", "1" + "0" * 30),
    ("9007199254740993.0", "9007199254740993"),
]


@pytest.mark.parametrize(("given", "printed"), NUMBERS)
def test_numbers_print_plain_and_exact(given: str, printed: str) -> None:
    body = legacy("TransactionAssignedToCustomer", f'{{"grossValue":{given}}}')
    assert dump(body["data"]["grossValue"]) == printed


@pytest.mark.parametrize(("given", "printed"), NUMBERS)
def test_numbers_within_free_values_print_the_same_way(given: str, printed: str) -> None:
    data = f'{{"items":[{{"labels":[{{"key":"k","value":{{"a":[{given}],"b":null}}}}]}}]}}'
    body = legacy("TransactionRegistered", data)
    assert dump(body["data"]["items"][0]["labels"]) == f'[{{"key":"k","value":{{"a":[{printed}],"b":null}}}}]'


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("80", "80"),
        ("80.00", "80"),
        ("80.5", "80.5"),
        ("80.004", "80"),
        ("80.005", "80.01"),
        ("80.0049999999999999999999", "80"),
        ("80.995", "81"),
        ("2.675", "2.68"),
        ("-0.005", "-0.01"),
        ("-0.004", "0"),
        ("1E+2", "100"),
        ("1e-300", "0"),
        ("123456789012345678901234567890.125", "123456789012345678901234567890.13"),
    ],
)
def test_points_to_expire_are_rounded_half_up_to_two_decimals(given: str, printed: str) -> None:
    assert dump(legacy("PointsWillExpire", f'{{"points":{given}}}')["data"][0]["points"]) == printed


@pytest.mark.parametrize(("given", "printed"), [("-80.50", "80.5"), ("80.50", "80.5"), ("-0", "0"), ("-3", "3")])
def test_the_change_of_an_amount_is_never_negative_and_the_balance_may_be(given: str, printed: str) -> None:
    body = legacy("AvailablePointsAmountChanged", f'{{"amountChange":{given},"amount":-7}}')
    assert dump(body["data"]["amount_change"]) == printed
    assert body["data"]["amount"] == -7


def test_dates_are_in_the_stores_time_zone_and_unix_seconds_where_the_table_says_so() -> None:
    data = {
        "customerData": {"birthDate": "1965-05-05T00:00:00+00:00", "registeredAt": "1969-12-31T23:59:58.5Z"},
        "levelAchievementDate": "2026-07-01T12:00:00.999Z",
    }
    registered = legacy("CustomerRegistered", data, timezone="America/New_York")["data"]["data"]
    assert registered["birthDate"] == "1965-05-04T20:00:00-04:00"
    assert registered["levelAchievementDate"] == "2026-07-01T08:00:00-04:00"
    assert registered["createdAt"] == -2
    coupon = legacy("CouponWillExpire", {"issuedCoupon": {"activeTo": "2026-01-12T23:59:59+01:00"}})["data"][0]
    assert coupon["couponExpiresAt"] == 1768258799


def test_a_bought_reward_says_when_and_in_which_store() -> None:
    body = legacy("CustomerBoughtReward", {}, timezone="Asia/Tokyo")
    assert body["createdAt"] == "2026-01-02T12:04:05+09:00"
    assert body["data"]["storeCode"] == "shop-7"


@pytest.mark.parametrize(
    ("company", "expected"),
    [
        (None, None),
        ({}, None),
        ({"name": "", "nip": ""}, None),
        ({"name": ""}, None),
        ({"name": "Example Ltd"}, {"name": "Example Ltd", "nip": None}),
        ({"name": "", "nip": "5250007738"}, {"name": "", "nip": "5250007738"}),
    ],
)
def test_a_company_is_left_out_when_its_name_and_number_are_both_empty(company: Any, expected: Any) -> None:
    data = {"customerData": {} if company is None else {"company": company}}
    registered = legacy("CustomerRegistered", data)["data"]["data"]
    assert registered.get("company") == expected
    assert ("company" in registered) is (expected is not None)


@pytest.mark.parametrize(
    ("level", "move"),
    [
        ({"levelMoveUp": True, "levelMoveDown": False}, "up"),
        ({"levelMoveUp": False, "levelMoveDown": True}, "down"),
        ({"levelMoveUp": False, "levelMoveDown": False}, None),
        ({}, None),
    ],
)
def test_an_automatic_change_of_level_says_which_way(level: dict[str, bool], move: str | None) -> None:
    assert legacy("CustomerLevelChanged", {"level": level}, "automatic")["data"]["levelMove"] == move


def test_a_level_taken_away_is_an_empty_id() -> None:
    body = legacy("CustomerLevelChanged", {"customer": {}})
    assert body["data"] == {"customerId": None, "levelId": "", "levelName": None, "levelAchievementDate": None}


def test_customers_are_found_where_each_event_has_them() -> None:
    for name in CATALOGUE:
        if CATALOGUE[name].legacy is not None:
            data = legacy(name, CATALOGUE[name].sample)["data"]
            entry = data[0] if isinstance(data, list) else data
            assert entry.get("customerId") in ("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70", None)
            assert ("customerId" in entry) is (name != "TransactionRegistered")
