"""Traces as an installation sends them: real processes, a collector on a real socket, which falls silent at the end."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from local.stack_file import Stack
from tests.deadlines import eventually
from tests.otlp import Collected, attributes, collector
from tests.receiver import Receiver, status
from tests.stack import FREE_PORTS, Up, up

pytestmark = pytest.mark.stack

PATIENCE_SECONDS = 30.0
LOGGED = "attempt failed"
EMIT = "POST /api/{storeCode}/event"


async def subscribe_and_emit(stack: Stack, url: str) -> str:
    """Subscribe the URL, emit one event to it; the event's id."""
    headers = {"X-AUTH-TOKEN": stack.api_key}
    async with httpx.AsyncClient(base_url=f"{stack.api}/api/{stack.store}/", headers=headers, timeout=30) as client:
        subscription = {"eventName": "CustomerUpdated", "url": url, "retrySchedule": [1, 1]}
        answer = await client.post("webhook/subscription", json={"webhookSubscription": subscription})
        answer.raise_for_status()
        answer = await client.post("event", json={"event": {"eventName": "CustomerUpdated", "data": {}}})
        return str(answer.raise_for_status().json()["eventId"])


async def hold_up_nothing_by_silence(running: Up, stack: Stack, receiver: Receiver, collected: Collected) -> None:
    """With a collector that never answers, an event is delivered and `up` stops as soon as ever."""
    before = len(receiver.requests)
    await subscribe_and_emit(stack, receiver.url("/hook"))
    await receiver.wait_for(before + 1, within=PATIENCE_SECONDS)

    async def asked() -> bool:
        return collected.unanswered >= 2

    await eventually(asked, PATIENCE_SECONDS, "API and worker wait for the collector")
    await asyncio.to_thread(running.stop)  # fails when it takes longer than an orchestrator waits


async def test_a_collector_gets_one_trace_that_the_log_names_and_its_silence_holds_up_nothing(tmp_path: Path) -> None:
    async with Receiver() as receiver, collector() as collected:
        receiver.script(status(500))
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with up(tmp_path / "stack", "--no-demo", *FREE_PORTS, environment=environment) as running:
            stack = await asyncio.to_thread(running.stack)
            event_id = await subscribe_and_emit(stack, receiver.url("/hook"))

            async def come() -> bool:
                attempts = collected.named("attempt CustomerUpdated")
                whole = all(collected.names_up_from(attempt)[-1] == EMIT for attempt in attempts)
                return len(attempts) == 2 and whole and len(collected.named(EMIT)) == 1

            await eventually(come, PATIENCE_SECONDS, "the emit and both attempts were sent to the collector")
            log = (tmp_path / "stack" / "logs" / "worker.log").read_text()
            collected.silent = True
            await hold_up_nothing_by_silence(running, stack, receiver, collected)
    assert {span.trace_id for span in collected.spans} == {collected.spans[0].trace_id}
    assert collected.services == {"loyalty-webhooks-api", "loyalty-webhooks-worker"}
    failed, delivered = sorted(collected.named("attempt CustomerUpdated"), key=lambda one: one.start_time_unix_nano)
    assert collected.names_up_from(failed)[-1] == EMIT
    assert collected.names_up_from(delivered)[-1] == EMIT
    assert attributes(delivered)["webhook.event_id"] == event_id
    [line] = [json.loads(line) for line in log.splitlines() if LOGGED in line]
    assert (line["trace_id"], line["span_id"]) == (failed.trace_id.hex(), failed.span_id.hex())
