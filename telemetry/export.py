"""Record spans and send them to a collector; imported only if a collector is configured."""

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
"""Maximum links of a span: the number of events in the largest batch."""

CLOSE_SECONDS = 3.0
"""Maximum time for sending the remaining spans at shutdown: an unreachable collector must not delay a stop."""


class LinkedSampler(Sampler):
    """Sampler of spans without a parent: records those linked to a recorded span. A worker starts no other trace."""

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
        linked = any(link.context.trace_flags.sampled for link in links or ())
        decides = ALWAYS_ON if linked else ALWAYS_OFF
        return decides.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return "LinkedSampler"


def traces(endpoint: str, part: str) -> Traces:
    """Return the traces of a process (`api`, `worker`), sent to the collector in the background."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    return traces_to(BatchSpanProcessor(exporter), part)


def traces_to(processor: SpanProcessor, part: str) -> Traces:
    """Return the traces of a process, given to `processor`. The emitting request decides if an event is traced."""
    name = os.environ.get("OTEL_SERVICE_NAME", f"loyalty-webhooks-{part}")
    # The API uses the sampler of OTEL_TRACES_SAMPLER. Its default records every emit, unless the caller opted out.
    provider = TracerProvider(
        sampler=None if part == "api" else ParentBased(LinkedSampler()),
        resource=Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version("loyalty-webhooks")}),
        span_limits=SpanLimits(max_links=MOST_LINKS),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)

    def close() -> None:
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    return Traces(provider, [TracingInterceptor(provider.get_tracer("temporalio"))], close)
