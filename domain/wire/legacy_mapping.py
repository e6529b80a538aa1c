"""Compare the legacy body of an event with the modern one, field by field, from the form that renders it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from domain.events.catalogue import CATALOGUE
from domain.timestamps import local_iso, zone
from domain.wire.bodies import EventFacts, modern_data_text
from domain.wire.jsontext import JsonValue, dump, parse
from domain.wire.legacy import Conversion, Each, Leaf, LegacySource, Shape, UnlessEmpty, find, render

ENTRIES_SHOWN = 3
"""Maximum entries of a list to compare; further entries map in the same way."""

DATA = "data"


class Change(StrEnum):
    """Change of a field between the two bodies."""

    SAME = "same"
    """Same path, same value."""
    MOVED = "moved"
    WRITTEN_OTHERWISE = "written_otherwise"
    LEGACY_ONLY = "legacy_only"
    MODERN_ONLY = "modern_only"


@dataclass(frozen=True, slots=True)
class FieldPair:
    """A field in both bodies. Paths are dotted, entries of lists by number; values are JSON texts, None if missing.

    `conversion` makes the legacy value; None for a field of the modern body alone.
    """

    change: Change
    legacy_path: str | None
    legacy_value: str | None
    modern_paths: tuple[str, ...]
    modern_values: tuple[str | None, ...]
    conversion: Conversion | None = None


def field_pairs(facts: EventFacts, variant: str, timezone: str) -> list[FieldPair]:
    """Return the fields of the legacy body in order, each with its modern counterpart, then fields of modern alone.
    Raises KeyError for an unknown event, ValueError for a variant without a legacy form."""
    event_type = CATALOGUE[facts.name]
    type_, shape, created_at = event_type.legacy_parts(variant)
    data, modern = parse(facts.data_text.encode()), parse(modern_data_text(facts.name, facts.data_text).encode())
    source = LegacySource(data, facts.store_code, zone(timezone))
    pairs = [_pair("type", type_, [("eventName", facts.name)], Conversion.AS_IT_IS)]
    if created_at:
        written = local_iso(facts.created_at, source.zone) or facts.created_at
        pairs.append(_pair("createdAt", written, [("createdAt", facts.created_at)], Conversion.LOCAL_TIME))
    pairs += _pairs(shape, DATA, DATA, source, event_type.legacy_only)
    paired = {path for pair in pairs for path in pair.modern_paths}
    envelope = {"messageId": None, "requestId": None, "storeCode": facts.store_code, "createdAt": facts.created_at}
    new = [(path, None if value is None else dump(value)) for path, value in envelope.items()]
    new += [(path, dump(value)) for path, value in _leaves(modern, DATA)]
    return pairs + [
        FieldPair(Change.MODERN_ONLY, None, None, (path,), (value,)) for path, value in new if not _among(path, paired)
    ]


def _pairs(
    shape: Shape, legacy: str, modern: str, source: LegacySource, legacy_only: frozenset[str]
) -> Iterator[FieldPair]:
    """Yield each value of the shape with its sources. `legacy` and `modern` are the paths so far in either body."""
    if isinstance(shape, Leaf):
        yield _leaf(shape, legacy, modern, source, legacy_only)
    elif isinstance(shape, Each):
        entries = find(source.data, shape.path)
        for number, entry in enumerate(entries[:ENTRIES_SHOWN] if isinstance(entries, list) else ()):
            inside = ".".join((modern, *shape.path, str(number)))
            yield from _pairs(shape.entry, f"{legacy}.{number}", inside, replace(source, data=entry), legacy_only)
    elif isinstance(shape, UnlessEmpty):
        rendered = render(shape, source)
        if isinstance(rendered, dict) and any(rendered.values()):
            yield from _pairs(shape.members, legacy, modern, source, legacy_only)
    else:
        for step, member in shape.items() if isinstance(shape, Mapping) else enumerate(shape):
            yield from _pairs(member, f"{legacy}.{step}", modern, source, legacy_only)


def _leaf(leaf: Leaf, legacy: str, modern: str, source: LegacySource, legacy_only: frozenset[str]) -> FieldPair:
    value = leaf.value(source)
    if leaf.conversion is Conversion.STORE_CODE:
        return _pair(legacy, value, [("storeCode", source.store_code)], leaf.conversion)
    if modern == DATA and all(path[0] in legacy_only for path in leaf.paths):
        return FieldPair(Change.LEGACY_ONLY, legacy, dump(value), (), (), leaf.conversion)
    sources = [(".".join((modern, *path)), find(source.data, path)) for path in leaf.paths]
    return _pair(legacy, value, sources, leaf.conversion)


def _pair(
    legacy_path: str, value: JsonValue, sources: Sequence[tuple[str, JsonValue]], conversion: Conversion
) -> FieldPair:
    paths = tuple(path for path, _ in sources)
    values = tuple(None if found is None else dump(found) for _, found in sources)
    written = dump(value)
    if written not in values and not (value is None and values == (None,)):
        change = Change.WRITTEN_OTHERWISE
    else:
        change = Change.SAME if paths == (legacy_path,) else Change.MOVED
    return FieldPair(change, legacy_path, written, paths, values, conversion)


def _leaves(value: JsonValue, path: str) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _leaves(member, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for number, entry in enumerate(value[:ENTRIES_SHOWN]):
            yield from _leaves(entry, f"{path}.{number}")
    elif path != DATA:
        yield path, value


def _among(path: str, paired: set[str]) -> bool:
    """Return True if the path is one of `paired` or lies inside of one."""
    steps = path.split(".")
    return any(".".join(steps[:count]) in paired for count in range(1, len(steps) + 1))
