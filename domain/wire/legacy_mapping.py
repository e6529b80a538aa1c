"""Compare the legacy body of an event with the modern one, field by field, from the form that renders it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
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


@dataclass(frozen=True, slots=True)
class _Position:
    """Position of the walk: the paths so far in either body, and the data there."""

    legacy: str
    modern: str
    data: JsonValue


def field_pairs(facts: EventFacts, variant: str, timezone: str) -> list[FieldPair]:
    """Return the fields of the legacy body in order, each with its modern counterpart, then fields of modern alone.

    Raises KeyError for an unknown event, ValueError for a variant without a legacy form.
    """
    event_type = CATALOGUE[facts.name]
    type_, shape, created_at = event_type.legacy_parts(variant)
    data, modern = parse(facts.data_text.encode()), parse(modern_data_text(facts.name, facts.data_text).encode())
    local = zone(timezone)
    pairs = [_pair("type", type_, [("eventName", facts.name)], Conversion.AS_IT_IS)]
    if created_at:
        written = local_iso(facts.created_at, local) or facts.created_at
        pairs.append(_pair("createdAt", written, [("createdAt", facts.created_at)], Conversion.LOCAL_TIME))
    walk = _Walk(facts.store_code, local, event_type.legacy_only)
    pairs += walk.pairs(shape, _Position(DATA, DATA, data))
    paired = {path for pair in pairs for path in pair.modern_paths}
    envelope = {"messageId": None, "requestId": None, "storeCode": facts.store_code, "createdAt": facts.created_at}
    new = [(path, None if value is None else dump(value)) for path, value in envelope.items()]
    new += [(path, dump(value)) for path, value in _leaves(modern, DATA)]
    return pairs + [
        FieldPair(Change.MODERN_ONLY, None, None, (path,), (value,)) for path, value in new if not _among(path, paired)
    ]


@dataclass(frozen=True, slots=True)
class _Walk:
    store_code: str
    zone: tzinfo
    legacy_only: frozenset[str]

    def pairs(self, shape: Shape, position: _Position) -> Iterator[FieldPair]:
        """Yield each value of the shape with its sources."""
        if isinstance(shape, Leaf):
            yield self._leaf(shape, position)
        elif isinstance(shape, Each):
            entries = find(position.data, shape.path)
            for number, entry in enumerate(entries[:ENTRIES_SHOWN] if isinstance(entries, list) else ()):
                inside = _Position(
                    f"{position.legacy}.{number}", ".".join((position.modern, *shape.path, str(number))), entry
                )
                yield from self.pairs(shape.entry, inside)
        elif isinstance(shape, UnlessEmpty):
            rendered = render(shape, self._source(position))
            if isinstance(rendered, dict) and any(rendered.values()):
                yield from self.pairs(shape.members, position)
        elif isinstance(shape, Mapping):
            for name, member in shape.items():
                yield from self.pairs(member, _Position(f"{position.legacy}.{name}", position.modern, position.data))
        elif isinstance(shape, Sequence):
            for number, members in enumerate(shape):
                yield from self.pairs(members, _Position(f"{position.legacy}.{number}", position.modern, position.data))

    def _leaf(self, leaf: Leaf, position: _Position) -> FieldPair:
        value = leaf.value(self._source(position))
        if leaf.conversion is Conversion.STORE_CODE:
            return _pair(position.legacy, value, [("storeCode", self.store_code)], leaf.conversion)
        sources = [(".".join((position.modern, *path)), find(position.data, path)) for path in leaf.paths]
        if position.modern == DATA and all(path[0] in self.legacy_only for path in leaf.paths):
            return FieldPair(Change.LEGACY_ONLY, position.legacy, dump(value), (), (), leaf.conversion)
        return _pair(position.legacy, value, sources, leaf.conversion)

    def _source(self, position: _Position) -> LegacySource:
        return LegacySource(position.data, self.store_code, self.zone)


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
