"""Records spans and sends them to a collector; imported only where that is asked for."""

import os
import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes
from temporalio.contrib.opentelemetry import TracingInterceptor

from telemetry.tracing import Traces

MOST_LINKS = 1000
"""Of a span: as many as the largest batch has events."""

CLOSE_SECONDS = 3.0
"""At the end, for what was not sent yet: a collector that is away must not hold up a stop."""


class WhereLinked(Sampler):
    """Of spans without a parent, those that link to a recorded one: a worker begins no trace of its own accord."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """As described."""
        linked = any(link.context.trace_flags.sampled for link in links or ())
        decides = ALWAYS_ON if linked else ALWAYS_OFF
        return decides.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For people."""
        return "WhereLinked"


def traces(endpoint: str, part: str) -> Traces:
    """Those of a process (`api`, `worker`), sent to the collector in the background."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    return traces_to(BatchSpanProcessor(exporter), part)


def traces_to(processor: SpanProcessor, part: str) -> Traces:
    """Those of a process, given to `processor`. Whether an event is traced is decided where it is emitted."""
    # The API's sampler is the one of OTEL_TRACES_SAMPLER; none: every emit, unless its caller decided otherwise.
    provider = TracerProvider(
        sampler=None if part == "api" else ParentBased(WhereLinked()),
        resource=_resource(part),
        span_limits=SpanLimits(max_links=MOST_LINKS),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)

    def close() -> None:
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    return Traces(provider, [TracingInterceptor(provider.get_tracer("temporalio"))], close)


def _resource(part: str) -> Resource:
    name = os.environ.get("OTEL_SERVICE_NAME", f"loyalty-webhooks-{part}")
    return Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version("loyalty-webhooks")})
