"""Modern bodies carry the data to the letter; an event makes one delivery or two; examples fit their schemas."""

import json
from typing import Any

import pytest

from domain.events.catalogue import CATALOGUE, EventType
from domain.events.examples import example_facts, legacy_example, modern_body_schema, modern_example
from domain.wire.bodies import EventFacts, legacy_body, modern_body, modern_data_text, variants
from domain.wire.jsontext import JsonValue, dump, parse
from tests.contract import modern
from tests.domain.making import EVENT_ID, MESSAGE_ID, REQUEST_ID, facts, modern_of
from tests.domain.strategies import ODD_TEXTS

each_event = pytest.mark.parametrize("event_type", CATALOGUE.values(), ids=CATALOGUE.keys())


def test_a_modern_body_is_the_envelope_in_order_and_the_data_to_the_letter() -> None:
    data = '{"points":10.10,"remainingUnits":123456789012345678901234567890}'
    assert modern_of("PointsWillExpire", data).decode() == (
        '{"messageId":"66666666-7777-5888-9999-aaaaaaaaaaaa","requestId":"bbbbbbbb-cccc-4ddd-8eee-ffffffffffff",'
        '"eventName":"PointsWillExpire","storeCode":"default","createdAt":"2026-01-02T03:04:05+01:00",'
        f'"data":{data}}}'
    )


@pytest.mark.parametrize("number", ["80", "80.5", "80.50", "-0", "1E+2", "1e-7", "123456789012345678901234567890.10"])
def test_a_modern_body_carries_numbers_as_they_were_sent(number: str) -> None:
    sent = f'{{"points":{number},"customerEmail":"member@example.com"}}'
    accepted = dump(parse(sent.encode()))
    assert modern_of("PointsWillExpire", accepted).endswith(f'"data":{{"points":{number}}}}}'.encode())


def test_legacy_only_fields_are_dropped_at_the_top_and_nowhere_else() -> None:
    kept = '"level":{"automatic":true},"customer":{"email":"\\"automatic\\":"}'
    data = f'{{"automatic":true,{kept},"levelAchievementDate":"2026-01-02T03:04:05Z"}}'
    assert modern_data_text("CustomerLevelChanged", data) == f"{{{kept}}}"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("CustomerUpdated", '{"customer":{}}', id="event without such fields"),
        pytest.param("CustomerLevelChanged", '{"level":{}}', id="none given"),
        pytest.param("CustomerLevelChanged", '{"level":{"automatic":true}}', id="of that name but deeper"),
        pytest.param("NoLongerKnown", '{"automatic":true}', id="event no longer in the catalogue"),
    ],
)
def test_where_nothing_is_to_be_dropped_the_very_same_text_is_used(name: str, data: str) -> None:
    assert modern_data_text(name, data) is data


def test_an_event_without_legacy_only_fields_is_never_parsed_for_a_modern_body() -> None:
    data = "this would not parse"
    assert modern_data_text("CustomerUpdated", data) is data


@pytest.mark.parametrize("text", [*ODD_TEXTS, "ż🙂\u202e" * 25_000], ids=[*map(repr, ODD_TEXTS), "200 KiB"])
def test_text_goes_over_unescaped_and_whole_in_both_formats(text: str) -> None:
    data_text = dump({"level": {"name": text}})
    modern_raw = modern_of("CustomerLevelChanged", data_text)
    legacy_raw = legacy_body(facts("CustomerLevelChanged", data_text), "main", "Europe/Warsaw")
    assert json.loads(modern_raw)["data"]["level"]["name"] == text
    assert json.loads(legacy_raw)["data"]["levelName"] == text
    assert dump(text).encode() in modern_raw
    assert dump(text).encode() in legacy_raw
    assert b"\\ud" not in modern_raw + legacy_raw


def test_store_codes_and_dates_cannot_break_out_of_the_envelope() -> None:
    odd = EventFacts(EVENT_ID, "CustomerUpdated", 'a","data":1', 'b"}', "{}")
    body: Any = parse(modern_body(odd, odd.data_text, MESSAGE_ID, REQUEST_ID))
    assert (body["storeCode"], body["createdAt"], body["data"]) == ('a","data":1', 'b"}', {})


@pytest.mark.parametrize(
    ("name", "data", "legacy", "expected"),
    [
        ("CustomerLevelChanged", '{"automatic":true}', True, ("main", "automatic")),
        ("CustomerLevelChanged", '{"automatic":true}', False, ("main",)),
        ("CustomerLevelChanged", '{"automatic":false}', True, ("main",)),
        ("CustomerLevelChanged", "{}", True, ("main",)),
        ("CustomerLevelChanged", '{"level":{"automatic":true}}', True, ("main",)),
        ("CustomerLevelChanged", '{"level":{"name":"\\"automatic\\":true"}}', True, ("main",)),
        ("CustomerUpdated", '{"automatic":true}', True, ("main",)),
        ("RewardCreated", "{}", False, ("main",)),
        ("RewardCreated", "{}", True, ()),
        ("NoLongerKnown", "{}", False, ("main",)),
        ("NoLongerKnown", "{}", True, ()),
    ],
)
def test_an_event_makes_one_delivery_or_two(name: str, data: str, legacy: bool, expected: tuple[str, ...]) -> None:
    assert variants(name, data, legacy) == expected


def test_a_form_that_does_not_exist_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="RewardCreated has no legacy form 'main'"):
        legacy_body(facts("RewardCreated", "{}"), "main", "UTC")
    with pytest.raises(ValueError, match="CustomerUpdated has no legacy form 'automatic'"):
        legacy_body(facts("CustomerUpdated", "{}"), "automatic", "UTC")


@each_event
def test_examples_are_the_sample_in_both_formats_and_fit_their_schemas(event_type: EventType) -> None:
    body: Any = modern_example(event_type)
    assert modern.errors_against(modern.EVENTS[event_type.name]["data"], body["data"]) == []
    assert modern.errors_against(modern_body_schema(event_type), body) == []
    assert modern.errors_against(event_type.schema(), event_type.sample) == []
    if event_type.legacy is None:
        assert legacy_example(event_type) is None
        return
    for variant in variants(event_type.name, example_facts(event_type).data_text, legacy=True):
        assert modern.errors_against(event_type.legacy_schema(variant), legacy_example(event_type, variant)) == []


@each_event
def test_schemas_stand_alone_and_are_valid_themselves(event_type: EventType) -> None:
    schemas: list[dict[str, Any]] = [event_type.schema(), event_type.modern_schema(), modern_body_schema(event_type)]
    if event_type.legacy is not None:
        schemas.append(event_type.legacy_schema())
    for schema in schemas:
        modern.check_schema(schema)
        assert "$ref" not in json.dumps(schema)


def _closed(schema: Any) -> JsonValue:
    return schema.get("additionalProperties")  # type: ignore[no-any-return]


def test_the_schema_to_emit_refuses_unknown_fields_and_that_of_receivers_does_not() -> None:
    event_type = CATALOGUE["TransactionRegistered"]
    for schema in (event_type.schema(), event_type.schema()["properties"]["customerData"]):
        assert _closed(schema) is False
    for schema in (event_type.modern_schema(), event_type.modern_schema()["properties"]["customerData"]):
        assert _closed(schema) is None
    assert set(event_type.schema()["properties"]) - set(event_type.modern_schema()["properties"]) == {
        "purchasePlace",
        "posId",
    }
