"""Whatever an event's model takes, both bodies can be made of it, and the contract takes them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events.catalogue import CATALOGUE, EventType, validate_data
from domain.events.examples import modern_body_schema
from domain.wire.bodies import legacy_body, variants
from domain.wire.jsontext import Number, dump, parse
from tests.contract import modern
from tests.domain.making import facts, modern_of
from tests.domain.strategies import any_json, data_of, event_types, places, replaced


@given(st.data())
@settings(max_examples=150)
def test_whatever_is_accepted_makes_a_modern_body_the_contract_accepts(draw: st.DataObject) -> None:
    event_type = draw.draw(event_types)
    data = draw.draw(data_of(event_type))
    assert validate_data(event_type, data) == []
    data_text = dump(data)
    body: Any = parse(modern_of(event_type.name, data_text))
    assert list(body) == ["messageId", "requestId", "eventName", "storeCode", "createdAt", "data"]
    assert modern.errors_against(modern.EVENTS[event_type.name]["data"], body["data"]) == []
    assert modern.errors_against(modern_body_schema(event_type), body) == []
    kept = {k: v for k, v in data.items() if k not in event_type.legacy_only} if isinstance(data, dict) else data
    assert dump(body["data"]) == dump(kept)


@given(st.data())
@settings(max_examples=150)
def test_whatever_is_accepted_makes_every_legacy_body_in_any_zone(draw: st.DataObject) -> None:
    event_type = draw.draw(event_types)
    data_text = dump(draw.draw(data_of(event_type)))
    timezone = draw.draw(st.sampled_from(["Europe/Warsaw", "America/New_York", "Africa/Monrovia", "No/Such_Zone"]))
    for variant in variants(event_type.name, data_text, legacy=True):
        raw = legacy_body(facts(event_type.name, data_text), variant, timezone)
        json.loads(raw)
        assert modern.errors_against(event_type.legacy_schema(variant), parse(raw)) == []


@given(st.data())
@settings(max_examples=80)
def test_data_accepted_with_unknown_fields_make_both_bodies_too(draw: st.DataObject) -> None:
    event_type = draw.draw(event_types)
    data = draw.draw(data_of(event_type))
    unknown = draw.draw(st.dictionaries(st.sampled_from(["new", "data", "type", "é"]), any_json, max_size=2))
    if isinstance(data, dict):
        data = {**unknown, **data}
    if validate_data(event_type, data, allow_unknown=True):
        return
    data_text = dump(data)
    body: Any = parse(modern_of(event_type.name, data_text))
    assert modern.errors_against(modern_body_schema(event_type), body) == []
    for variant in variants(event_type.name, data_text, legacy=True):
        legacy_body(facts(event_type.name, data_text), variant, "Europe/Warsaw")


@pytest.mark.parametrize("event_type", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_data_of_an_older_catalogue_cannot_make_a_builder_raise(event_type: EventType) -> None:
    for place in places(event_type.sample):
        for value in (None, True, 7, Number("1.50"), "x", [], [7], {}, {"x": 7}):
            data_text = dump(replaced(event_type.sample, place, value))
            json.loads(modern_of(event_type.name, data_text))
            for variant in variants(event_type.name, data_text, legacy=True):
                json.loads(legacy_body(facts(event_type.name, data_text), variant, "Europe/Warsaw"))


def test_a_created_at_that_is_no_date_goes_over_as_it_is() -> None:
    raw = legacy_body(facts("CustomerBoughtReward", "{}", created_at="yesterday"), "main", "Europe/Warsaw")
    assert json.loads(raw)["createdAt"] == "yesterday"
