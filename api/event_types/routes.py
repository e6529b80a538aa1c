"""The events there are: their names, and of each its schema and examples. All from the catalogue."""

from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import Field

from api.access import SubscriptionRead
from api.body import Output
from api.errors import NotFound
from domain.events.catalogue import CATALOGUE
from domain.events.examples import legacy_example, modern_example
from domain.wire.jsontext import dump_bytes

router = APIRouter(prefix="/api/{storeCode}/webhook/event", tags=["event types"])

EventNamePath = Annotated[str, Path(alias="eventName", json_schema_extra={"enum": list(CATALOGUE)})]


class EventNames(Output):
    """Names that subscriptions and emitted events may have."""

    items: list[str]


class Examples(Output):
    """`data` is what to emit; the others are whole bodies as receivers get them, `legacy` null where there is none."""

    data: Any
    modern: Any
    legacy: Any


class EventTypeDetails(Output):
    """One event."""

    event_name: str
    description: str
    scheduled: bool
    data_schema: Annotated[dict[str, Any], Field(alias="schema", description="JSON Schema of the data to emit.")]
    examples: Examples


@router.get("", summary="List event names")
async def names(access: SubscriptionRead) -> EventNames:
    """In alphabetical order."""
    return EventNames(items=list(CATALOGUE))


@router.get("/{eventName}", summary="Details of an event type", response_model=EventTypeDetails)
async def details(access: SubscriptionRead, event_name: EventNamePath) -> Response:
    """What to emit and what receivers get."""
    if event_name not in CATALOGUE:
        raise NotFound
    return Response(_details(event_name), media_type="application/json")


@lru_cache(maxsize=len(CATALOGUE))
def _details(event_name: str) -> bytes:
    """Written once: the same for every store, with numbers as exact as in a body."""
    event_type = CATALOGUE[event_name]
    return dump_bytes(
        {
            "eventName": event_type.name,
            "description": event_type.description,
            "scheduled": event_type.scheduled,
            "schema": event_type.schema(),
            "examples": {
                "data": event_type.sample,
                "modern": modern_example(event_type),
                "legacy": legacy_example(event_type),
            },
        }
    )
