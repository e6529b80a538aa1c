"""The bodies of every event, written out for reading: one file for each event, made anew by `python -m tests.goldens`.

A file says `{"every field": {"modern": …, "legacy": …}, "fewest fields": {…}}`. It is indented for the reader; written
compactly it is the body to the byte, since `jsontext` keeps the order of keys and the text of numbers.
"""

from dataclasses import replace
from pathlib import Path

import orjson

from domain.events.catalogue import EventType
from domain.events.examples import EXAMPLE_MESSAGE_ID, EXAMPLE_REQUEST_ID, example_facts
from domain.wire.bodies import EventFacts, legacy_body, modern_body, modern_data_text, variants
from domain.wire.jsontext import JsonValue, Number, parse

FOLDER = Path(__file__).parent
TIMEZONE = "America/New_York"
"""The samples' instants are written +01:00, so every date of a legacy body shows that it was converted."""


def path_of(event_type: EventType) -> Path:
    return FOLDER / f"{event_type.name}.json"


def bodies_of(event_type: EventType) -> dict[str, dict[str, bytes]]:
    """The bodies as sent, in the order of the file."""
    full = example_facts(event_type)
    fewest = "[]" if isinstance(event_type.sample, list) else "{}"
    return {
        "every field": _bodies(full),
        "fewest fields": _bodies(replace(full, data_text=fewest)),
    }


def _bodies(facts: EventFacts) -> dict[str, bytes]:
    modern_data = modern_data_text(facts.name, facts.data_text)
    bodies = {"modern": modern_body(facts, modern_data, EXAMPLE_MESSAGE_ID, EXAMPLE_REQUEST_ID)}
    for variant in variants(facts.name, facts.data_text, legacy=True):
        name = "legacy" if variant == "main" else f"legacy {variant}"
        bodies[name] = legacy_body(facts, variant, TIMEZONE)
    return bodies


def text_of(event_type: EventType) -> bytes:
    """What the event's file has to hold."""
    readable: JsonValue = {
        case: {name: parse(body) for name, body in bodies.items()} for case, bodies in bodies_of(event_type).items()
    }
    return orjson.dumps(readable, default=_fragment, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _fragment(value: object) -> orjson.Fragment:
    assert isinstance(value, Number)
    return orjson.Fragment(value.text)
