"""Spans of the relay and of attempts. Without a provider there are none, at no cost.

Traces cross the outbox as the W3C `traceparent` in the event's row, null for an untraced event.

This module depends on OpenTelemetry's interface alone; `telemetry/export.py` builds the recording and sending if it is
configured. The spans of the API come from FastAPI's instrumentation, those of workflows and activities from Temporal's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TracerProvider, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio.client import Interceptor

from domain.delivery.lifecycle import Step
from domain.wire.bodies import EventFacts

TRACER = "loyalty-webhooks"
TRACEPARENT = "traceparent"

_PROPAGATOR = TraceContextTextMapPropagator()


def current_traceparent() -> str | None:
    """Return the `traceparent` of the current span, or None if there is none or it is not recorded."""
    if not get_current_span().get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier[TRACEPARENT]


def context_of(traceparent: str) -> Context:
    """Return a context whose current span is the remote span of that `traceparent`."""
    return _PROPAGATOR.extract({TRACEPARENT: traceparent}, Context())


@dataclass(eq=False)
class Traces:
    """Tracing of a process. `interceptors` belong on its Temporal client."""

    provider: TracerProvider | None = None
    interceptors: Sequence[Interceptor] = ()
    close: Callable[[], None] = lambda: None
    """Send the remaining spans; waits for a bounded time."""

    def __post_init__(self) -> None:
        self._tracer = self.provider.get_tracer(TRACER) if self.provider is not None else None

    @contextmanager
    def handing_over(self, workflow_id: str, traceparents: Iterable[str | None]) -> Iterator[None]:
        """Span around a workflow start: in the trace that all events share, or in a new trace with links to theirs.
        Events emitted in one request share a trace; a batch of the relay may contain events of many."""
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
    def attempt(
        self,
        event: EventFacts,
        traceparent: str | None,
        *,
        url: str,
        message_id: UUID,
        subscription_id: UUID,
        number: int,
    ) -> Iterator[Callable[[Step], None]]:
        """Span around queueing, sending and recording an attempt; yields a function that takes the outcome. The span
        belongs to the trace of its event. If the surrounding activity is in another trace (a batch's, or none, because
        a drain outlives any trace), the span links to the activity's."""
        if self._tracer is None or traceparent is None:
            yield lambda _: None
            return
        emitted = context_of(traceparent)
        around = get_current_span().get_span_context()
        inside = around.is_valid and around.trace_id == _span_of(emitted).trace_id
        with self._tracer.start_as_current_span(
            f"attempt {event.name}",
            context=None if inside else emitted,
            kind=SpanKind.CLIENT,
            links=() if inside or not around.is_valid else [Link(around)],
            attributes={
                "http.request.method": "POST",
                "server.address": _host(url),
                "webhook.store": event.store_code,
                "webhook.event_id": str(event.event_id),
                "webhook.message_id": str(message_id),
                "webhook.subscription_id": str(subscription_id),
                "webhook.attempt": number,
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


def _host(url: str) -> str:
    """Return the host of a stored URL, or nothing if it is not one: the request builder refuses it, not the tracing."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


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
