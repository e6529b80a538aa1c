"""Spans of the relay and of attempts. Without a provider there are none, at no cost.

This module depends on OpenTelemetry's interface alone; `telemetry/export.py` builds the recording and sending if it is
configured. The spans of the API come from FastAPI's instrumentation, those of workflows and activities from Temporal's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TracerProvider, get_current_span
from temporalio.client import Interceptor

from domain.delivery.lifecycle import Step
from domain.wire.bodies import EventFacts
from telemetry.traceparent import context_of

TRACER = "loyalty-webhooks"


class Destination(Protocol):
    """The subscription of a traced delivery."""

    @property
    def id(self) -> UUID:
        """Id of the subscription."""

    @property
    def url(self) -> str:
        """URL of the receiver."""


class TracedDelivery(Protocol):
    """Facts of a delivery that its span shows (`storage.deliveries.open.OpenDelivery`)."""

    message_id: UUID
    event: EventFacts
    number: int
    traceparent: str | None

    @property
    def subscription(self) -> Destination:
        """Receiver of the delivery."""


def _nothing_to_close() -> None:
    return


class Traces:
    """Tracing of a process. `interceptors` belong on its Temporal client."""

    def __init__(
        self,
        provider: TracerProvider | None = None,
        interceptors: Sequence[Interceptor] = (),
        close: Callable[[], None] = _nothing_to_close,
    ) -> None:
        self.provider = provider
        self.interceptors = interceptors
        self.close = close
        """Send the remaining spans; waits for a bounded time."""
        self._tracer = provider.get_tracer(TRACER) if provider is not None else None

    @contextmanager
    def handing_over(self, workflow_id: str, traceparents: Iterable[str | None]) -> Iterator[None]:
        """Span around a workflow start: in the trace that all events share, or in a new trace with links to theirs.

        Events emitted in one request share a trace; a batch of the relay may contain events of many.
        """
        emitted = [context_of(one) for one in dict.fromkeys(traceparents) if one is not None]
        if self._tracer is None or not emitted:
            yield
            return
        with self._tracer.start_as_current_span(
            "hand over",
            context=emitted[0] if len(emitted) == 1 else Context(),
            kind=SpanKind.PRODUCER,
            links=[Link(_span_of(context)) for context in emitted] if len(emitted) > 1 else (),
            attributes={"temporalWorkflowID": workflow_id},
        ):
            yield

    @contextmanager
    def attempt(self, delivery: TracedDelivery) -> Iterator[Callable[[Step], None]]:
        """Span around queueing, sending and recording an attempt; yields a function that takes the outcome.

        The span belongs to the trace of its event. If the surrounding activity is in another trace (a batch's, or none,
        because a drain outlives any trace), the span links to the activity's.
        """
        if self._tracer is None or delivery.traceparent is None:
            yield _untold
            return
        event = context_of(delivery.traceparent)
        around = get_current_span().get_span_context()
        inside = around.is_valid and around.trace_id == _span_of(event).trace_id
        with self._tracer.start_as_current_span(
            f"attempt {delivery.event.name}",
            context=None if inside else event,
            kind=SpanKind.CLIENT,
            links=() if inside or not around.is_valid else [Link(around)],
            attributes={
                "http.request.method": "POST",
                "server.address": urlsplit(delivery.subscription.url).hostname or "",
                "webhook.store": delivery.event.store_code,
                "webhook.event_id": str(delivery.event.event_id),
                "webhook.message_id": str(delivery.message_id),
                "webhook.subscription_id": str(delivery.subscription.id),
                "webhook.attempt": delivery.number,
            },
            record_exception=False,  # an attempt that another worker makes is no error
            set_status_on_exception=False,
        ) as span:

            def tell(step: Step) -> None:
                span.set_attribute("webhook.status", step.status)
                if step.status_code is not None:
                    span.set_attribute("http.response.status_code", step.status_code)
                if step.failure is not None:
                    span.set_attribute("error.type", step.failure)
                    span.set_status(StatusCode.ERROR)

            yield tell


NO_TRACES = Traces()


def _untold(_: Step) -> None:
    return


def _span_of(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


@contextmanager
def of_no_trace() -> Iterator[None]:
    """Detach from the current trace, to start work that outlives the event and would extend its trace for days."""
    token = attach(Context())
    try:
        yield
    finally:
        detach(token)
