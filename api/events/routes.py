"""Routes that emit one or many events, and the details of an event."""

import logging
from dataclasses import replace
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response

from api.access import DeliveryRead, StoreAccess, StoreCodePath, StoreRight, authenticated
from api.body import JSON, DocumentedBody, Output, calls, read_body
from api.deliveries.models import EventDetails
from api.errors import existing
from api.events.batch import DocumentedBatch, is_ndjson
from api.events.service import WRAPPER, EmitRefused, EmittedEvent
from api.ids import id_path, parse_id
from api.resources import FromResources, resources_of
from api.temporal_links import workflow_url
from domain.access import Scope
from storage.deliveries.log import deliveries_of_event
from storage.events.intake import NewEvent, find_event, note_rejected
from storage.unavailable import in_words, is_unavailable
from telemetry.tracing import current_traceparent

logger = logging.getLogger(__name__)

MAY_EMIT = StoreRight(Scope.EVENT_EMIT)


async def note_refused(request: Request, refusal: EmitRefused) -> None:
    """Store the rejected events, so that `explain` can report them. The emit stays refused if this fails."""
    try:
        async with resources_of(request).database.transaction() as connection:
            await note_rejected(connection, request.path_params["storeCode"], refusal.rejected)
    except Exception as error:
        if not is_unavailable(error):
            raise
        logger.warning("%d rejected events not recorded for explain (%s)", len(refusal.rejected), in_words(error))


class Accepted(Output):
    """An accepted event. `duplicate`: this id and content was accepted before; the event is delivered once."""

    event_id: UUID
    duplicate: bool


class BatchAccepted(Output):
    """One item per event, in the order of the request."""

    items: list[Accepted]


class ManyEvents(DocumentedBatch[EmittedEvent]):
    """Dependency that returns the body as validated events, from a JSON array or from NDJSON."""

    async def __call__(self, request: Request, store_code: StoreCodePath, resources: FromResources) -> list[NewEvent]:
        """Return the events. Raises ValidationFailed or TooLarge."""
        raw = await read_body(request, resources.settings.batch_limit_bytes)
        return await resources.event_reader.read_batch(store_code, raw, lines=is_ndjson(request))


EventEmit = Annotated[StoreAccess, Depends(MAY_EMIT)]
EmittedMany = Annotated[list[NewEvent], Depends(ManyEvents(EmittedEvent, noun="event"))]
EventIdPath = Annotated[str, id_path("eventId", "Id of the event.")]

router = APIRouter(prefix="/api/{storeCode}/event", tags=["events"])


def in_trace(events: list[NewEvent]) -> list[NewEvent]:
    """Return the events with the trace context of this request, if it is recorded."""
    traceparent = current_traceparent()
    return events if traceparent is None else [replace(event, traceparent=traceparent) for event in events]


ACCEPTED = "Stored: the event is delivered, whatever crashes. `duplicate`: an earlier request had stored it."
TAKEN = {"description": "Another event has this `eventId`: `differences` has the paths that differ from it."}


@router.post(
    "",
    summary="Emit an event",
    status_code=202,
    response_description=ACCEPTED,
    responses={409: TAKEN},
    response_model=Accepted,
)
@calls(authenticated, MAY_EMIT, DocumentedBody(EmittedEvent, WRAPPER))
async def emit_event(request: Request, store_code: StoreCodePath) -> Response:
    """Accept an event; the response follows its commit. The same `eventId` and content may be sent again."""
    resources = resources_of(request)
    await MAY_EMIT.grant(request, store_code, await authenticated(request))
    raw = await read_body(request, resources.settings.event_limit_bytes)
    [event] = in_trace([resources.event_reader.read_one(store_code, raw)])
    duplicate = await resources.intake.accept(event)
    return _accepted(Accepted(event_id=event.event_id, duplicate=duplicate))


@router.post(
    "/batch",
    summary="Emit many events",
    status_code=202,
    response_description=f"All are stored. {ACCEPTED}",
    responses={409: TAKEN},
    response_model=BatchAccepted,
)
async def emit_events(access: EventEmit, resources: FromResources, events: EmittedMany) -> Response:
    """Accept all events or none, in one transaction. Paths of errors start with the event's index, from 0."""
    duplicates = await resources.intake.accept_all(in_trace(events))
    items = [
        Accepted(event_id=event.event_id, duplicate=duplicate)
        for event, duplicate in zip(events, duplicates, strict=True)
    ]
    return _accepted(BatchAccepted(items=items))


def _accepted(answer: Output) -> Response:
    """Return the response. FastAPI's own serialisation takes 7 µs per event instead of 1 µs."""
    return Response(answer.model_dump_json(by_alias=True), 202, media_type=JSON)


@router.get("/{eventId}", summary="Details of an event", response_model=EventDetails)
async def get_event(access: DeliveryRead, resources: FromResources, event_id: EventIdPath) -> Response:
    """Return the event as it was accepted, and all its deliveries."""
    async with resources.database.transaction() as connection:
        event = existing(await find_event(connection, access.store_code, parse_id(event_id)))
        deliveries = await deliveries_of_event(connection, access.store_code, event.event_id)
    shown = EventDetails.of(
        event,
        event_name=event.name,
        created_at=event.created_at_text,
        data=None,
        deliveries=deliveries,
        temporal_url=workflow_url(resources, event.workflow_id),
    ).model_dump(mode="json", by_alias=True)
    # The fragment keeps the exact numbers, which a model would lose.
    answer = shown if event.data is None else shown | {"data": orjson.Fragment(event.data)}
    return Response(orjson.dumps(answer), media_type=JSON)
