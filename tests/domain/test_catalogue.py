"""The catalogue holds every event once and judges data as the published contract does, and more strictly."""

import re
from typing import Annotated, Any

import pytest

from domain.events.catalogue import (
    CATALOGUE,
    MASK,
    EventType,
    has_secrets,
    mask_secrets,
    nearest_name,
    secrets_in,
    validate_data,
)
from domain.events.fields import ABSENT, LEGACY_ONLY, SECRET, Data, Text
from domain.wire.jsontext import JsonValue, dump
from tests.contract import modern
from tests.contract.tables import marked_fields
from tests.domain.strategies import places

each_event = pytest.mark.parametrize("event_type", CATALOGUE.values(), ids=CATALOGUE.keys())


def test_the_catalogue_has_the_published_events_and_marks_the_same_seventeen() -> None:
    published = {name: event["seed"] for name, event in modern.EVENTS.items()}
    assert published == {name: event_type.seed for name, event_type in CATALOGUE.items()}
    assert sum(published.values()) == 17
    assert all(event_type.legacy for event_type in CATALOGUE.values() if event_type.seed)
    assert {name for name, event_type in CATALOGUE.items() if event_type.scheduled} == {
        "PointsWillExpire",
        "LevelWillExpire",
        "CouponWillExpire",
    }


@each_event
def test_legacy_only_fields_and_secrets_are_those_of_the_contract(event_type: EventType) -> None:
    assert event_type.legacy_only == marked_fields(event_type.name, "legacy-only")
    assert {".".join(path) for path in event_type.secrets} == marked_fields(event_type.name, "secret")


@each_event
def test_each_model_has_exactly_the_published_fields_with_their_types(event_type: EventType) -> None:
    assert facts_of(event_type.modern_schema()) == facts_of(modern.EVENTS[event_type.name]["data"])


def facts_of(schema: dict[str, Any], path: str = "") -> set[tuple[Any, ...]]:
    """What a schema says of each place, however it is put together: its types, formats, single values and fields."""
    types = schema.get("type", [])
    values = [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]
    facts: set[tuple[Any, ...]] = {(path, "type", type_) for type_ in (types if isinstance(types, list) else [types])}
    facts |= {fact for value in values for fact in ((path, "type", "string"), (path, "value", value))}
    if "format" in schema:
        facts |= {(path, "format", schema["format"])}
    for name, member in schema.get("properties", {}).items():
        facts |= {(path, "has", name)} | facts_of(member, f"{path}.{name}")
    for choice in schema.get("anyOf", []):
        facts |= facts_of(choice, path)
    if "items" in schema:
        facts |= facts_of(schema["items"], f"{path}[]")
    return facts


@each_event
def test_the_sample_gives_every_field(event_type: EventType) -> None:
    assert validate_data(event_type, event_type.sample) == []
    assert fields_left_out(event_type.schema(), event_type.sample) == []


def fields_left_out(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:
    """Fields of the schema the value does not give; where there is a choice, of the one it comes nearest to."""
    if "anyOf" in schema:
        fitting = [choice for choice in schema["anyOf"] if not modern.errors_against(choice, value)]
        return min((fields_left_out(choice, value, path) for choice in fitting), key=len)
    if "items" in schema:
        assert value, f"{path} is empty"
        return [left_out for entry in value for left_out in fields_left_out(schema["items"], entry, f"{path}[]")]
    left_out = []
    for name, member in schema.get("properties", {}).items():
        left_out += fields_left_out(member, value[name], f"{path}.{name}") if name in value else [f"{path}.{name}"]
    return left_out


@each_event
def test_no_field_need_be_given(event_type: EventType) -> None:
    nothing: JsonValue = {} if isinstance(event_type.sample, dict) else []
    assert validate_data(event_type, nothing) == []


@each_event
def test_descriptions_are_one_sentence(event_type: EventType) -> None:
    assert re.fullmatch(r"[A-Z][^.]+\.", event_type.description)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CustomerRegisterd", "CustomerRegistered"),
        ("customerregistered", "CustomerRegistered"),
        ("POINTSWILLEXPIRE", "PointsWillExpire"),
        ("RewardUpdate", "RewardUpdated"),
        ("xyzzy", None),
        ("", None),
        ("CustomerRegistered" * 1000, None),
    ],
)
def test_the_nearest_name_helps_with_a_slip(name: str, expected: str | None) -> None:
    assert nearest_name(name) == expected


@each_event
def test_secrets_are_masked_in_a_copy_and_nothing_else_is(event_type: EventType) -> None:
    before = dump(event_type.sample)
    masked = mask_secrets(event_type, event_type.sample)
    assert dump(event_type.sample) == before
    assert has_secrets(event_type, event_type.sample) is bool(event_type.secrets)
    assert [place for place in places(masked) if _at(masked, place) == MASK] == sorted(
        event_type.secrets, key=places(masked).index
    )
    for place in places(masked):
        if not isinstance(_at(masked, place), dict | list) and place not in event_type.secrets:
            assert _at(masked, place) == _at(event_type.sample, place)


def _at(value: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        value = value[step]
    return value


def test_where_no_secret_is_given_nothing_is_masked_or_invented() -> None:
    event_type = CATALOGUE["RewardRedemptionStatusChanged"]
    without: list[JsonValue] = [{}, {"issuedReward": {}}, {"issuedReward": {"issuedCoupon": {"value": 1}}}, [], 7]
    for data in without:
        assert not has_secrets(event_type, data)
        assert mask_secrets(event_type, data) is data
    assert mask_secrets(event_type, {"issuedReward": {"token": "t"}}) == {"issuedReward": {"token": MASK}}


def test_codes_of_products_and_wallets_are_no_secrets() -> None:
    for name in ("TransactionRegistered", "AvailablePointsAmountChanged", "UnitsTransferWasAdded"):
        assert mask_secrets(CATALOGUE[name], CATALOGUE[name].sample) is CATALOGUE[name].sample


class _Voucher(Data):
    pin: Annotated[Text, SECRET] = ABSENT
    name: Text = ABSENT


class _Vouchers(Data):
    best: _Voucher | None = ABSENT
    all: list[_Voucher] = ABSENT


def test_a_secret_is_found_in_lists_and_where_null_is_allowed() -> None:
    event_type = EventType(name="Vouchers", description="Vouchers.", model=_Vouchers)
    assert event_type.secrets == (("best", "pin"), ("all", "*", "pin"))
    data: JsonValue = {"best": None, "all": [{"pin": "1", "name": "a"}, {"name": "b"}, {}]}
    assert has_secrets(event_type, data)
    assert secrets_in(event_type, data) == ["1"]
    assert mask_secrets(event_type, data) == {"best": None, "all": [{"pin": MASK, "name": "a"}, {"name": "b"}, {}]}
    assert not has_secrets(event_type, {"best": {"name": "a"}, "all": []})


class _Receipt(Data):
    posId: Annotated[Text, LEGACY_ONLY] = ABSENT  # noqa: N815


class _Purchase(Data):
    receipts: list[_Receipt] = ABSENT


def test_a_legacy_only_field_below_the_top_is_refused_since_nothing_would_drop_it() -> None:
    with pytest.raises(
        ValueError, match=r"Purchase: only fields at the top can be LEGACY_ONLY, not receipts\.\*\.posId"
    ):
        EventType(name="Purchase", description="A purchase.", model=_Purchase)


def test_a_field_without_a_sample_is_named_when_the_sample_is_made() -> None:
    with pytest.raises(TypeError, match="needs a sample"):
        _ = EventType(name="Vouchers", description="Vouchers.", model=_Vouchers).sample
