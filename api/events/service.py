"""Parsing and validation of emit requests."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import ConfigDict

from api.body import Input, parse_body, validate
from api.errors import Problem, ValidationFailed, invalid
from api.events.batch import Batch
from api.ids import is_id
from domain.events.catalogue import CATALOGUE, nearest_name, validate_data
from domain.events.fields import ABSENT, DateTime, Text, Uuid
from domain.timestamps import utc_instant
from domain.wire.jsontext import JsonValue, join
from settings import Settings
from storage.events.intake import NewEvent, RejectedEvent, new_event
from storage.ids import drawn_id, read_id
from storage.sealing import Sealer

WRAPPER = "event"
MOST_NAME_CHARACTERS = 100
"""Maximum length of an unknown event name in an error message."""

MOST_NOTED = 3
"""Maximum number of problems stored for a rejected event. The first ones suffice as an explanation."""

MOST_NOTED_CHARACTERS = 500
"""Maximum length of the stored problems of a rejected event."""


def _event_schema(schema: dict[str, Any]) -> None:
    """Describe `data` as a free object or array of them: generated clients need one class for all event types."""
    data = {"$ref": "#/components/schemas/EventData"}
    schema["properties"] |= {
        "eventName": {"type": "string", "enum": sorted(CATALOGUE)},
        "data": {"anyOf": [data, {"type": "array", "items": data}]},
    }


class EmittedEvent(Input):
    """An event in an emit request. `data` is validated by the model of its event type."""

    model_config = ConfigDict(json_schema_extra=_event_schema)

    event_name: Text
    data: Any
    event_id: Uuid = ABSENT
    created_at: DateTime = ABSENT


class EmitRefused(ValidationFailed):
    """ValidationFailed for an emit. `rejected` are the events with ids, including valid ones of the same batch."""

    def __init__(self, problems: Sequence[Problem], events: Sequence[RejectedEvent]) -> None:
        super().__init__(problems)
        self.rejected = events


def rejected(value: JsonValue, problems: Sequence[Problem], prefix: str) -> list[RejectedEvent]:
    """Return the invalid event with its first problems, or an empty list if the event has no id."""
    event_id = value.get("eventId") if isinstance(value, dict) else None
    if not isinstance(event_id, str) or not is_id(event_id):
        return []
    words = [f"{problem.path.removeprefix(prefix)}: {problem.message}" for problem in problems[:MOST_NOTED]]
    return [RejectedEvent(UUID(event_id), "; ".join(words)[:MOST_NOTED_CHARACTERS])]


class EventReader:
    """Parser and validator of emit requests."""

    def __init__(self, sealer: Sealer, settings: Settings) -> None:
        self._sealer = sealer
        self._allow_unknown_fields = settings.allow_unknown_fields
        self._batch = Batch(settings.batch_limit_events, settings.event_limit_bytes, "event")

    def read_one(self, store_code: str, raw: bytes) -> NewEvent:
        """Return the event of `{"event": {…}}`. Raises ValidationFailed with paths inside the wrapper."""
        problems: list[Problem] = []
        value = parse_body(raw, WRAPPER)
        event = self._event(store_code, value, "", problems)
        if event is None:
            raise EmitRefused(problems, rejected(value, problems, ""))
        return event

    async def read_batch(self, store_code: str, raw: bytes, *, lines: bool) -> list[NewEvent]:
        """Return the events of a JSON array, or with `lines` of NDJSON (blank lines are skipped).

        Raises ValidationFailed with paths below the event's index (from 0), and TooLarge.
        """
        problems: list[Problem] = []
        events: list[NewEvent] = []
        valid: list[RejectedEvent] = []
        rejected_events: list[RejectedEvent] = []
        async for index, value in self._batch.objects(raw, lines=lines, problems=problems):
            count = len(problems)
            event = self._event(store_code, value, str(index), problems)
            if event is None:
                rejected_events += rejected(value, problems[count:], f"{index}.")
                continue
            events.append(event)
            if "eventId" in value:
                valid.append(RejectedEvent(event.event_id, "other events of its batch were wrong"))
        if problems:
            raise EmitRefused(problems, [*valid, *rejected_events])
        if not events:
            raise invalid("", "empty", "contains no event")
        return events

    def _event(self, store_code: str, value: JsonValue, path: str, problems: list[Problem]) -> NewEvent | None:
        """Return the event, or None after adding its problems to `problems`."""
        try:
            emitted = validate(EmittedEvent, value, path)
        except ValidationFailed as refusal:
            problems += refusal.problems
            return None
        event_type = CATALOGUE.get(emitted.event_name)
        if event_type is None:
            problems.append(Problem(join(path, "eventName"), "unknown_event", _unknown_name(emitted.event_name)))
            return None
        count = len(problems)
        for found in validate_data(event_type, emitted.data, self._allow_unknown_fields):
            where = join(path, "data")
            problems.append(Problem(join(where, found.path) if found.path else where, found.code, found.message))
        created_at = None if emitted.created_at is None else utc_instant(emitted.created_at)
        if created_at is None and emitted.created_at is not None:
            problems.append(Problem(join(path, "createdAt"), "out_of_range", "must be in the years 1 to 9999 in UTC"))
        if len(problems) > count:
            return None
        return new_event(
            store_code,
            event_type,
            drawn_id() if emitted.event_id is None else read_id(emitted.event_id),
            emitted.data,
            self._sealer,
            created_at=created_at,
            created_at_text=emitted.created_at,
        )


def _unknown_name(name: str) -> str:
    nearest = nearest_name(name)
    shown = name if len(name) <= MOST_NAME_CHARACTERS else f"{name[:MOST_NAME_CHARACTERS]}…"
    hint = f"did you mean {nearest!r}?" if nearest else "GET /webhook/event lists the names"
    return f"no event is named {shown!r}; {hint}"
