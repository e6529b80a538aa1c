"""Receivers parse these bytes: a body that changes shows as a changed file in a review."""

import pytest

from domain.events.catalogue import CATALOGUE, EventType
from domain.wire.jsontext import dump, parse
from tests.goldens.files import FOLDER, bodies_of, path_of, text_of

REMEDY = "read what changed, and if it is meant: python -m tests.goldens"


@pytest.mark.parametrize("event_type", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_bodies_are_those_of_the_golden_file_to_the_byte(event_type: EventType) -> None:
    golden = parse(path_of(event_type).read_bytes())
    assert isinstance(golden, dict)
    for case, bodies in bodies_of(event_type).items():
        kept = golden[case]
        assert isinstance(kept, dict)
        assert list(kept) == list(bodies), REMEDY
        for name, body in bodies.items():
            assert body.decode() == dump(kept[name]), f"{case}, {name}: {REMEDY}"


@pytest.mark.parametrize("event_type", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_golden_files_are_as_they_are_written(event_type: EventType) -> None:
    assert path_of(event_type).read_bytes() == text_of(event_type), REMEDY


def test_there_is_a_golden_file_for_each_event_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CATALOGUE)


def test_the_seventeen_events_have_goldens_in_both_formats_with_every_and_with_fewest_fields() -> None:
    seed = [bodies_of(event_type) for event_type in CATALOGUE.values() if event_type.seed]
    assert len(seed) == 17
    for bodies in seed:
        assert all({"modern", "legacy"} <= set(case) for case in bodies.values())
        assert set(bodies) == {"every field", "fewest fields"}
