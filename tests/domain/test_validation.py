"""Data to emit are judged by the event's model: what is wrong is told by path and code."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events.catalogue import CATALOGUE, MAX_ERRORS, FieldError, validate_data
from domain.wire.jsontext import JsonValue, Number, dump, parse
from tests.contract import modern
from tests.domain.strategies import any_json, data_of, event_types, places, replaced

CODES = set(re.findall(r"`(\w+_\w+)`", FieldError.__doc__ or ""))
"""Those the documentation promises."""


def problems(name: str, data: Any, allow_unknown: bool = False) -> list[tuple[str, str]]:
    return [(error.path, error.code) for error in validate_data(CATALOGUE[name], data, allow_unknown)]


PROBLEMS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("CustomerUpdated", '{"zz":1}', [("zz", "unknown_field")]),
    ("CustomerUpdated", '{"zz":null}', [("zz", "unknown_field")]),
    ("CustomerUpdated", '{"customer":{"eMail":"x"}}', [("customer.eMail", "unknown_field")]),
    ("CustomerUpdated", '{"customer":null}', [("customer", "null_not_allowed")]),
    ("CustomerUpdated", '{"customer":[]}', [("customer", "not_an_object")]),
    ("CustomerUpdated", '{"customer":"x"}', [("customer", "not_an_object")]),
    ("CustomerUpdated", "[]", [("", "not_an_object")]),
    ("CustomerUpdated", "null", [("", "null_not_allowed")]),
    ("CustomerUpdated", '{"customer":{"customerId":"123"}}', [("customer.customerId", "not_a_uuid")]),
    ("CustomerUpdated", '{"customer":{"customerId":1}}', [("customer.customerId", "not_a_string")]),
    (
        "CustomerUpdated",
        '{"customer":{"customerId":"{9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70}"}}',
        [("customer.customerId", "not_a_uuid")],
    ),
    (
        "CustomerUpdated",
        '{"customer":{"customerId":"9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70\\n"}}',
        [("customer.customerId", "not_a_uuid")],
    ),
    ("CustomerUpdated", '{"customer":{"customerId":"9C1F6A52-0D1B-4F6E-8B7C-2F3A4D5E6F70"}}', []),
    ("CustomerUpdated", '{"customer":{"email":"not an address"}}', []),
    (
        "TransactionRegistered",
        '{"items":[{},{"quantity":1.5},{"sku":{"code":7}},{"labels":[{"value":null},{"valeu":1}]}]}',
        [
            ("items.1.quantity", "not_an_integer"),
            ("items.2.sku.code", "not_a_string"),
            ("items.3.labels.1.valeu", "unknown_field"),
        ],
    ),
    ("TransactionRegistered", '{"items":{}}', [("items", "not_an_array")]),
    ("TransactionRegistered", '{"items":[{"quantity":true}]}', [("items.0.quantity", "not_an_integer")]),
    ("TransactionRegistered", '{"items":[{"grossValue":false}]}', [("items.0.grossValue", "not_a_number")]),
    ("TransactionRegistered", '{"items":[{"grossValue":"1.5"}]}', [("items.0.grossValue", "not_a_number")]),
    ("TransactionRegistered", '{"items":[{"quantity":2.0},{"quantity":1E+2},{"quantity":-0}]}', []),
    ("TransactionRegistered", '{"purchasedAt":"2026-01-02"}', [("purchasedAt", "not_a_date_time")]),
    ("TransactionRegistered", '{"purchasedAt":"2026-01-02T03:04:05"}', [("purchasedAt", "not_a_date_time")]),
    ("CustomerRegistered", '{"customerData":{"agreement1":1}}', [("customerData.agreement1", "not_a_boolean")]),
    ("CustomerLevelChanged", '{"automatic":"true"}', [("automatic", "not_a_boolean")]),
    ("CouponWillExpire", '{"couponStatus":"used"}', [("couponStatus", "not_one_of")]),
    ("AvailablePointsAmountChanged", '{"actionCause":null}', []),
    ("AvailablePointsAmountChanged", '{"actionCause":{"campaignId":null,"performedAt":null}}', []),
    ("AvailablePointsAmountChanged", '{"actionCause":{"xyz":null}}', [("actionCause.xyz", "unknown_field")]),
    ("AvailablePointsAmountChanged", '{"actionCause":1}', [("actionCause", "not_an_object")]),
    ("AchievementCreated", '{"achievement":{"activity":{"data":"x"}}}', []),
    ("AchievementCreated", '{"achievement":{"activity":{"data":["x","y"]}}}', []),
    (
        "AchievementCreated",
        '{"achievement":{"activity":{"data":["x",1]}}}',
        [("achievement.activity.data.1", "not_a_string")],
    ),
    (
        "AchievementCreated",
        '{"achievement":{"activity":{"data":{"until":"x"}}}}',
        [("achievement.activity.data.until", "unknown_field")],
    ),
    (
        "AchievementCreated",
        '{"achievement":{"activity":{"data":{"<object>":"x"}}}}',
        [("achievement.activity.data.<object>", "unknown_field")],
    ),
    (
        "AchievementCreated",
        '{"achievement":{"activity":{"data":7}}}',
        [("achievement.activity.data", "wrong_type")],
    ),
    (
        "AchievementCreated",
        '{"achievement":{"activity":{"data":null}}}',
        [("achievement.activity.data", "null_not_allowed")],
    ),
    (
        "CampaignCreated",
        '{"campaign":{"trigger":{"type":"transaction","eventId":"x"}}}',
        [("campaign.trigger.eventId", "unknown_field")],
    ),
    ("CampaignCreated", '{"campaign":{"trigger":{"type":"transaction","documentNumber":"x"}}}', []),
    ("CampaignCreated", '{"campaign":{"trigger":{"documentNumber":"x","eventId":"x"}}}', []),
    ("CampaignCreated", '{"campaign":{"trigger":{"type":"x"}}}', [("campaign.trigger.type", "not_one_of")]),
    ("CampaignCreated", '{"campaign":{"trigger":{"type":[]}}}', [("campaign.trigger.type", "not_one_of")]),
    ("CampaignCreated", '{"campaign":{"trigger":7}}', [("campaign.trigger", "not_an_object")]),
    ("CampaignCreated", '{"campaign":{"trigger":{"type":"internal_event","payload":{"any":[null,1.5]}}}}', []),
    ("RewardCreated", '{"reward":{"activity":{"from":"2026-01-02T03:04:05Z"},"costInPoints":null}}', []),
    ("RewardCreated", '{"reward":{"activity":{"from_":"x"}}}', [("reward.activity.from_", "unknown_field")]),
    ("AchievementsWereProcessed", "{}", [("", "not_an_array")]),
    ("AchievementsWereProcessed", '[{},{"x":1}]', [("1.x", "unknown_field")]),
]


@pytest.mark.parametrize(("name", "data", "expected"), PROBLEMS)
def test_what_is_wrong_is_told_by_path_and_code(name: str, data: str, expected: list[tuple[str, str]]) -> None:
    assert problems(name, parse(data.encode())) == expected


def test_a_float_is_refused_since_it_is_no_longer_what_was_written() -> None:
    assert problems("PointsWillExpire", {"points": 1.5}) == [("points", "not_a_number")]
    assert problems("PointsWillExpire", {"points": Number("1.5")}) == []
    assert problems("PointsWillExpire", {"points": Decimal("NaN")}) == [("points", "not_a_number")]


def test_unknown_fields_may_be_let_through_while_known_ones_are_still_checked() -> None:
    data = {"new": 1, "customer": {"new": None, "customerId": "x"}}
    assert problems("CustomerUpdated", data, allow_unknown=True) == [("customer.customerId", "not_a_uuid")]
    union = {"achievement": {"activity": {"data": {"new": 1, "from": 2}}}}
    assert problems("AchievementCreated", union, allow_unknown=True) == [
        ("achievement.activity.data.from", "not_a_string")
    ]


def test_errors_are_counted_out_and_long_names_cut() -> None:
    many: dict[str, JsonValue] = {f"{'k' * 1000}{index}": 1 for index in range(MAX_ERRORS * 3)}
    errors = validate_data(CATALOGUE["CustomerUpdated"], many)
    assert len(errors) == MAX_ERRORS
    assert max(len(error.path) for error in errors) < 110


@given(st.data())
def test_whatever_is_drawn_from_the_schema_is_accepted(draw: st.DataObject) -> None:
    event_type = draw.draw(event_types)
    data = draw.draw(data_of(event_type))
    assert validate_data(event_type, data) == []
    assert dump(parse(dump(data).encode())) == dump(data)


@given(st.data())
@settings(max_examples=200)
def test_model_and_schema_agree_on_data_gone_wrong_at_one_place(draw: st.DataObject) -> None:
    event_type = draw.draw(event_types)
    place = draw.draw(st.sampled_from(places(event_type.sample)))
    data = replaced(event_type.sample, place, draw.draw(any_json))
    errors = validate_data(event_type, data)
    assert (errors == []) is (modern.errors_against(event_type.schema(), data) == []), errors
    assert {error.code for error in errors} <= CODES


@given(st.data())
@settings(max_examples=50)
def test_any_json_at_all_is_judged_without_raising(draw: st.DataObject) -> None:
    event_type = draw.draw(event_types)
    assert {error.code for error in validate_data(event_type, draw.draw(any_json))} <= CODES


def test_the_codes_in_the_table_above_are_all_there_are() -> None:
    assert {code for case in PROBLEMS for _, code in case[2]} == CODES
