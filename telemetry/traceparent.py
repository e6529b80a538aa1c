"""Propagate traces over the outbox, as the W3C `traceparent` in the event's row; null for an untraced event."""

from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

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
