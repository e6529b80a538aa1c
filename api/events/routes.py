"""Emitting events, one or many, and looking at one."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.access import DeliveryRead, StoreAccess, StoreCodePath, StoreRight
from api.body import Output, read_body
from api.deliveries.models import EventDetails, delivery_items
from api.errors import ApiError, NotFound
from api.events.batch import JSON, NDJSON, has_groups
from api.events.service import WRAPPER, EmitRefused, EmittedEvent
from api.ids import id_path, parse_id
from api.resources import FromResources, Resources
from api.temporal_links import workflow_url
from domain.access import Scope
from storage.deliveries.log import deliveries_of_event
from storage.events.intake import NewEvent
from storage.events.log import find_event
from storage.events.rejected import note_rejected
from storage.unavailable import is_unavailable
from telemetry.traceparent import current_traceparent

logger = logging.getLogger(__name__)


Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class CountedRoute(APIRoute):
    """Count emits that are refused, by status: right, body and storage alike."""

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler, watched."""
        handle = super().get_route_handler()

        async def counted(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                if request.method == "POST":
                    found: Resources = request.app.state.resources
                    found.metrics.rejected.labels(str(_status(error))).inc()
                    if isinstance(error, EmitRefused) and error.rejected:
                        await _note(found, request.path_params["storeCode"], error)
                raise

        return counted


async def _note(resources: Resources, store_code: str, refusal: EmitRefused) -> None:
    """For whoever will ask why the event did not arrive; the refusal stands, noted or not."""
    try:
        async with resources.database.transaction() as connection:
            await note_rejected(connection, store_code, refusal.rejected)
    except Exception as error:
        if not is_unavailable(error):
            raise
        logger.warning("%d refused emits not noted: %s", len(refusal.rejected), type(error).__name__)


def _status(error: Exception) -> int:
    if isinstance(error, ApiError):
        return error.status
    if isinstance(error, RequestValidationError):
        return 400
    return 503 if is_unavailable(error) else 500


class Accepted(Output):
    """`duplicate`: an event of this id and content was accepted before; it is delivered once."""

    event_id: UUID
    duplicate: bool


class BatchAccepted(Output):
    """One item for each event, in their order."""

    items: list[Accepted]


@dataclass(frozen=True)
class OneEvent:
    """A dependency: the body as one checked event."""

    refuses = (400, 413)

    async def __call__(self, request: Request, store_code: StoreCodePath, resources: FromResources) -> NewEvent:
        """Raises ValidationFailed or TooLarge."""
        raw = await read_body(request, resources.settings.event_limit_bytes)
        return resources.event_reader.read_one(store_code, raw)

    def models(self) -> tuple[type[BaseModel], ...]:
        """What the body is validated with."""
        return (EmittedEvent,)

    def request_body(self, references: Mapping[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        """The OpenAPI request body."""
        schema = {
            "type": "object",
            "properties": {WRAPPER: references[EmittedEvent]},
            "required": [WRAPPER],
            "additionalProperties": False,
        }
        return {"required": True, "content": {JSON: {"schema": schema}}}


@dataclass(frozen=True)
class ManyEvents:
    """A dependency: the body as checked events, from a JSON array or from lines of NDJSON."""

    refuses = (400, 413)

    async def __call__(self, request: Request, store_code: StoreCodePath, resources: FromResources) -> list[NewEvent]:
        """Raises ValidationFailed, TooLarge or TooMuchError."""
        raw = await read_body(request, resources.settings.batch_limit_bytes)
        return await resources.event_reader.read_batch(store_code, raw, lines=has_groups(request))

    def models(self) -> tuple[type[BaseModel], ...]:
        """What each event is validated with."""
        return (EmittedEvent,)

    def request_body(self, references: Mapping[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
        """The OpenAPI request body."""
        array = {"type": "array", "items": references[EmittedEvent], "minItems": 1}
        lines = {"type": "string", "description": "One event a line, as in the array."}
        return {"required": True, "content": {JSON: {"schema": array}, NDJSON: {"schema": lines}}}


EventEmit = Annotated[StoreAccess, Depends(StoreRight(Scope.EVENT_EMIT))]
EmittedOne = Annotated[NewEvent, Depends(OneEvent())]
EmittedMany = Annotated[list[NewEvent], Depends(ManyEvents())]
EventIdPath = Annotated[str, id_path("eventId", "Id of the event.")]

router = APIRouter(prefix="/api/{storeCode}/event", tags=["events"], route_class=CountedRoute)


def in_trace(events: list[NewEvent]) -> list[NewEvent]:
    """The events with the trace of this request, where it is recorded."""
    traceparent = current_traceparent()
    return events if traceparent is None else [replace(event, traceparent=traceparent) for event in events]


@router.post("", summary="Emit an event", status_code=202, responses={409: {}})
async def emit(access: EventEmit, resources: FromResources, event: EmittedOne) -> Accepted:
    """Answered when the event is stored for good. The same `eventId` with the same content may be sent again."""
    [traced] = in_trace([event])
    return Accepted(event_id=event.event_id, duplicate=await resources.intake.accept(traced))


@router.post(
    "/batch",
    summary="Emit many events",
    status_code=202,
    responses={409: {}},
    response_model=BatchAccepted,
)
async def emit_many(access: EventEmit, resources: FromResources, events: EmittedMany) -> Response:
    """All of them or none, in one transaction. Paths of errors start with the event's index, from 0."""
    duplicates = await resources.intake.accept_all(in_trace(events))
    items = [
        Accepted(event_id=event.event_id, duplicate=duplicate)
        for event, duplicate in zip(events, duplicates, strict=True)
    ]
    # FastAPI's own way would take 7 µs an event instead of 1: a fifth of what an event costs here.
    return Response(BatchAccepted(items=items).model_dump_json(by_alias=True), 202, media_type=JSON)


@router.get("/{eventId}", summary="Details of an event", response_model=EventDetails)
async def details(access: DeliveryRead, resources: FromResources, event_id: EventIdPath) -> Response:
    """The event as it was accepted, and all its deliveries."""
    async with resources.database.transaction() as connection:
        event = await find_event(connection, access.store_code, parse_id(event_id))
        if event is None:
            raise NotFound
        deliveries = await deliveries_of_event(connection, access.store_code, event.event_id)
    answer = EventDetails(
        event_id=event.event_id,
        event_name=event.name,
        store_code=event.store_code,
        created_at=event.created_at_text,
        accepted_at=event.accepted_at,
        data=None,
        deliveries=delivery_items(deliveries),
        temporal_url=workflow_url(resources, event.workflow_id),
    ).model_dump(mode="json", by_alias=True)
    if event.data is not None:
        answer["data"] = orjson.Fragment(event.data)  # its numbers as they were sent; no model would keep them
    return Response(orjson.dumps(answer), media_type=JSON)
