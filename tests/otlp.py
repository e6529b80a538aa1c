"""A collector for tests: takes OTLP over HTTP on a real socket and keeps the spans it was sent.

async with collector() as collected:
    start(OTEL_EXPORTER_OTLP_ENDPOINT=collected.endpoint)
    trace = await collected.trace_of(lambda span: span.name == "attempt CustomerUpdated")
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collected:
    """Its address, and what came so far."""

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    silent: bool = False
    """Requests are taken and never answered."""
    unanswered: int = 0

    def named(self, name: str) -> list[Span]:
        """Spans of this name."""
        return [span for span in self.spans if span.name == name]

    def names_up_from(self, span: Span) -> list[str]:
        """Names of a span, its parent, and so on up to the root; ends where a parent has not come."""
        by_id = {one.span_id: one for one in self.spans}
        names: list[str] = []
        at: Span | None = span
        while at is not None:
            names.append(at.name)
            at = by_id.get(at.parent_span_id)
        return names

    async def take(self, request: web.Request) -> web.Response:
        """POST /v1/traces."""
        body = await request.read()
        if self.silent:
            self.unanswered += 1
            await asyncio.Event().wait()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            facts = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(facts["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


def attributes(span: Span) -> dict[str, object]:
    """Of a span, as values of Python."""
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


@asynccontextmanager
async def collector() -> AsyncIterator[Collected]:
    """Takes spans until the block ends."""
    collected = Collected()
    app = web.Application()
    app.router.add_post("/v1/traces", collected.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collected.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collected
    finally:
        await runner.cleanup()
