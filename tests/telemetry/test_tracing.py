"""One event, one trace: from the emit over the outbox and the workflow to each attempt, whatever it is batched with."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from domain.wire.bodies import EventFacts
from telemetry.export import traces_to
from temporal.client import temporal_client
from tests.api.running import RunningApi, running_api
from tests.deadlines import eventually
from tests.pipeline import Pipeline, pipeline
from tests.receiver import Receiver, status

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
"""The trace of a platform that traces itself."""
EMIT = "POST /api/{storeCode}/event"
ONE_EVENT = [
    "attempt CustomerUpdated",
    "RunActivity:attempt-events",
    "StartActivity:attempt-events",
    *(START_OF_WORKFLOW := ["StartWorkflow:deliver-events", "hand over", EMIT]),
]


@dataclass
class Traced:
    """API and pipeline on one database, and the spans both have ended."""

    api: RunningApi
    running: Pipeline
    exporter: InMemorySpanExporter

    async def emit(self, **headers: str) -> None:
        answer = await self.api.post("event", {"event": {"eventName": "CustomerUpdated", "data": {}}}, headers=headers)
        assert answer.status_code == 202, answer.text

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    async def until_spans(self, name: str, count: int) -> Sequence[ReadableSpan]:
        """So many spans of a name, oldest first."""

        async def ended() -> bool:
            return len(self.spans(name)) >= count

        await eventually(
            ended, 20, f"{count} spans {name!r}, of {[s.name for s in self.exporter.get_finished_spans()]}"
        )
        return sorted(self.spans(name), key=lambda span: span.start_time or 0)

    def way_to(self, span: ReadableSpan) -> list[str]:
        """Its name, its parent's, and so on to the root, which may have a parent elsewhere."""
        by_id = {one.context.span_id: one for one in self.exporter.get_finished_spans() if one.context}
        names: list[str] = []
        at: ReadableSpan | None = span
        while at is not None:
            names.append(at.name)
            at = by_id.get(at.parent.span_id) if at.parent is not None else None
        return names


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_trace_id(span.context.trace_id)


@asynccontextmanager
async def traced(
    url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, **overrides: object
) -> AsyncIterator[Traced]:
    """Both record into one exporter, each as its process would."""
    exporter = InMemorySpanExporter()
    of_api, of_worker = (traces_to(SimpleSpanProcessor(exporter), part) for part in ("api", "worker"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    client: Client = await temporal_client(lazy=False, payload_keys=(), interceptors=of_worker.interceptors)
    async with (
        running_api(url, traces=of_api) as api,
        pipeline(url, client, traces=of_worker, **overrides) as running,
    ):
        yield Traced(api, running, exporter)


def test_an_attempt_at_a_url_that_is_none_has_a_span_without_a_host() -> None:
    exporter = InMemorySpanExporter()
    traces = traces_to(SimpleSpanProcessor(exporter), "worker")
    event = EventFacts(uuid4(), "CustomerUpdated", "default", "2026-01-01T00:00:00Z", "{}")
    traceparent, ids = f"00-{CALLER}-00f067aa0ba902b7-01", {"message_id": uuid4(), "subscription_id": uuid4()}
    with traces.attempt(event, traceparent, url="http://[::1:80/", number=1, **ids):
        pass
    [span] = exporter.get_finished_spans()
    assert (span.attributes or {})["server.address"] == ""


async def test_one_event_is_one_trace_from_its_emit_to_its_attempt(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver() as receiver, traced(database_url, temporal, monkeypatch) as tracing:
        await tracing.running.subscribe("CustomerUpdated", receiver.url("/hook?token=secret"))
        await tracing.emit(traceparent=f"00-{CALLER}-00f067aa0ba902b7-01")
        [attempt] = await tracing.until_spans("attempt CustomerUpdated", 1)
        await tracing.until_spans("CompleteWorkflow:deliver-events", 1)
        await tracing.until_spans(EMIT, 1)
        assert tracing.way_to(attempt) == ONE_EVENT
        [workflow] = tracing.spans("RunWorkflow:deliver-events")
        assert tracing.way_to(workflow) == [workflow.name, *START_OF_WORKFLOW]
        assert {trace_of(span) for span in tracing.exporter.get_finished_spans()} == {CALLER}
        [delivery] = await tracing.running.deliveries()
        facts = dict(attempt.attributes or {})
        assert facts["webhook.message_id"] == str(delivery.message_id)
        assert (facts["http.response.status_code"], facts["webhook.status"]) == (200, "delivered")
        assert "secret" not in "".join(span.to_json() for span in tracing.exporter.get_finished_spans())
        assert receiver.requests[0].header("traceparent") is None


async def test_every_attempt_of_a_retried_delivery_is_in_the_trace_of_its_event(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"retry_schedule_seconds": (1, 1), "trace_receivers": True}
    async with Receiver() as receiver, traced(database_url, temporal, monkeypatch, **settings) as tracing:
        receiver.script(status(503))
        await tracing.running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await tracing.emit()
        first, second = await tracing.until_spans("attempt CustomerUpdated", 2)
        assert trace_of(first) == trace_of(second)
        assert (first.attributes or {})["error.type"] == "http_5xx"

        async def whole() -> bool:
            way = tracing.way_to(second)
            return way[1:3] == ["RunActivity:deliver-webhook", "StartActivity:deliver-webhook"]

        await eventually(whole, 20, "the span of the activity has ended too")
        for span, request in zip((first, second), receiver.requests, strict=True):
            assert span.context is not None
            assert (request.header("traceparent") or "").startswith(f"00-{trace_of(span)}-{span.context.span_id:016x}-")


async def test_events_of_many_emits_keep_their_traces_in_a_batch_that_links_to_each(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 30
    settings = {"relaying": False, "retry_schedule_seconds": (1,), "claim_lease_seconds": 60}
    async with Receiver() as receiver, traced(database_url, temporal, monkeypatch, **settings) as tracing:
        receiver.script(status(500))
        await tracing.running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await asyncio.gather(*(tracing.emit() for _ in range(count)))
        relaying = asyncio.create_task(tracing.running.relay.run())
        attempts = await tracing.until_spans("attempt CustomerUpdated", count + 1)
        tracing.running.relay.stop()
        await relaying
        traces = {trace_of(emit) for emit in await tracing.until_spans(EMIT, count)}
        assert len(traces) == count
        assert {trace_of(attempt) for attempt in attempts} == traces
        assert all(attempt.links for attempt in attempts)
        [batch] = tracing.spans("hand over")
        assert {format_trace_id(link.context.trace_id) for link in batch.links} == traces
        assert trace_of(batch) not in traces
        assert [trace_of(span) for span in tracing.spans("RunWorkflow:deliver-events")] == [trace_of(batch)]


async def test_a_delivery_sent_by_a_drain_is_in_the_trace_of_its_event_and_the_drain_in_none(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver() as receiver, traced(database_url, temporal, monkeypatch) as tracing:
        await tracing.running.subscribe("CustomerUpdated", receiver.url("/hook"), ordered=True)
        await tracing.emit()
        [attempt] = await tracing.until_spans("attempt CustomerUpdated", 1)
        [emit] = await tracing.until_spans(EMIT, 1)
        assert trace_of(attempt) == trace_of(emit)
        assert tracing.way_to(attempt) == ["attempt CustomerUpdated", EMIT]
        names = {span.name for span in tracing.exporter.get_finished_spans()}
        assert not {name for name in names if name.endswith(("drain-subscription", "drain-held"))}


async def test_what_was_not_traced_by_its_caller_is_not_traced_by_us(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver() as receiver, traced(database_url, temporal, monkeypatch) as tracing:
        await tracing.running.subscribe("CustomerUpdated", receiver.url("/hook"))
        await tracing.emit(traceparent=f"00-{CALLER}-00f067aa0ba902b7-00")
        await tracing.running.until_statuses({"delivered": 1})
        assert await tracing.running.scalar("SELECT traceparent FROM event") is None
        assert tracing.exporter.get_finished_spans() == ()
