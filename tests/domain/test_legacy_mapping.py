"""Legacy bodies beside modern ones: every field of either is in the comparison, and says what becomes of it."""

from typing import Any

import pytest

from domain.events.catalogue import CATALOGUE
from domain.events.examples import EXAMPLE_MESSAGE_ID, EXAMPLE_REQUEST_ID, EXAMPLE_TIMEZONE, example_facts
from domain.wire.bodies import legacy_body, modern_body, modern_data_text, variants
from domain.wire.jsontext import dump, parse
from domain.wire.legacy_mapping import ENTRIES_SHOWN, Change, FieldPair, field_pairs

LEGACY = [name for name, event_type in CATALOGUE.items() if event_type.legacy is not None]


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Dotted path -> JSON text of every value that is no container."""
    if isinstance(value, dict) and value:
        children: Any = value.items()
    elif isinstance(value, list) and value:
        children = list(enumerate(value))[:ENTRIES_SHOWN]
    else:
        return {path: dump(value)}
    return {place: text for key, child in children for place, text in leaves(child, f"{path}.{key}".strip(".")).items()}


def of(name: str, variant: str = "main") -> list[FieldPair]:
    return field_pairs(example_facts(CATALOGUE[name]), variant, EXAMPLE_TIMEZONE)


@pytest.mark.parametrize("name", LEGACY)
def test_every_field_of_both_bodies_is_compared_with_its_very_value(name: str) -> None:
    facts = example_facts(CATALOGUE[name])
    modern_text = modern_data_text(name, facts.data_text)
    modern = leaves(parse(modern_body(facts, modern_text, EXAMPLE_MESSAGE_ID, EXAMPLE_REQUEST_ID)))
    compared: set[str] = set()
    for variant in variants(name, facts.data_text, legacy=True):
        pairs = of(name, variant)
        legacy = leaves(parse(legacy_body(facts, variant, EXAMPLE_TIMEZONE)))
        shown = {pair.legacy_path: pair.legacy_value for pair in pairs if pair.legacy_path is not None}
        flat = {
            path: text for place, value in shown.items() for path, text in leaves(parse(value.encode()), place).items()
        }
        assert flat == legacy
        for pair in pairs:
            for path, value in zip(pair.modern_paths, pair.modern_values, strict=True):
                inside = {} if value is None else leaves(parse(value.encode()), path)
                assert {place: modern[place] for place in inside} == inside
                compared |= {path, *inside}
    assert set(modern) - compared == set()


@pytest.mark.parametrize("name", LEGACY)
def test_what_is_said_to_be_the_same_is_and_what_is_said_to_be_gone_is(name: str) -> None:
    for pair in of(name):
        if pair.change is Change.SAME:
            assert pair.modern_paths == (pair.legacy_path,)
        if pair.change in (Change.SAME, Change.MOVED):
            assert pair.legacy_value in pair.modern_values or pair.legacy_value == "null"
        assert (pair.modern_paths == ()) == (pair.change is Change.LEGACY_ONLY)
        assert (pair.legacy_path is None) == (pair.change is Change.MODERN_ONLY)


def test_changes_of_places_times_and_numbers_are_told_apart() -> None:
    found = {pair.legacy_path: (pair.change, pair.modern_paths) for pair in of("CustomerRegistered")}
    assert found["data.customerId"] == (Change.SAME, ("data.customerId",))
    assert found["data.data.firstName"] == (Change.MOVED, ("data.customerData.firstName",))
    assert found["data.data.createdAt"] == (Change.WRITTEN_OTHERWISE, ("data.customerData.registeredAt",))
    assert found["data.data.posId"] == (Change.LEGACY_ONLY, ())
    new = [pair.modern_paths[0] for pair in of("CustomerRegistered") if pair.change is Change.MODERN_ONLY]
    assert new[:4] == ["messageId", "requestId", "storeCode", "createdAt"]
    assert "data.customerData.referralToken" in new


def test_a_second_webhook_is_compared_by_its_own_form() -> None:
    paths = {pair.legacy_path: pair.modern_paths for pair in of("CustomerLevelChanged", "automatic")}
    assert paths["data.levelMove"] == ("data.level.levelMoveUp", "data.level.levelMoveDown")


def test_an_event_without_a_legacy_form_has_nothing_to_compare() -> None:
    name = next(name for name, event_type in CATALOGUE.items() if event_type.legacy is None)
    with pytest.raises(ValueError, match="legacy"):
        of(name)
