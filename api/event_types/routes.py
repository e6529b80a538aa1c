"""Routes of the event catalogue: event names, and the schema and examples of each event."""

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
    """Names that webhooks and emitted events may have."""

    items: list[str]


class Examples(Output):
    """Examples: the `data` to emit, and the bodies that receivers get. `legacy` is null without a legacy format."""

    data: Any
    modern: Any
    legacy: Any


class EventTypeDetails(Output):
    """An event type with its schema and examples."""

    event_name: str
    description: str
    scheduled: bool
    data_schema: Annotated[dict[str, Any], Field(alias="schema", description="JSON Schema of the data to emit.")]
    examples: Examples


@router.get("", summary="List event names")
async def list_event_names(access: SubscriptionRead) -> EventNames:
    """Return all event names in alphabetical order."""
    return EventNames(items=list(CATALOGUE))


@router.get("/{eventName}", summary="Details of an event type", response_model=EventTypeDetails)
async def get_event_type(access: SubscriptionRead, event_name: EventNamePath) -> Response:
    """Return the schema of the data to emit, and examples of the bodies that receivers get."""
    if event_name not in CATALOGUE:
        raise NotFound
    return Response(_details(event_name), media_type="application/json")


@lru_cache(maxsize=len(CATALOGUE))
def _details(event_name: str) -> bytes:
    """Return the response, cached because it is the same for every store, with exact numbers."""
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
