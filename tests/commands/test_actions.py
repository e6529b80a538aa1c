"""Each act through the command line, at an API with a worker behind it."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.api.acting import ActionStarts, acting_installation
from tests.api.running import RunningApi
from tests.api.serving import serving
from tests.commands.running import Ended, run
from tests.deadlines import eventually
from tests.receiver import Receiver, status

PATIENCE_SECONDS = 30.0


@dataclass
class Person:
    """Somebody with a terminal and every right at an API."""

    acting: ActionStarts
    root: str
    directory: Path

    @property
    def api(self) -> RunningApi:
        return self.acting.api

    async def cli(self, *arguments: str, code: int = 0) -> Ended:
        """Run the command; it ends with this exit code."""
        key = self.api.client.headers["X-AUTH-TOKEN"]
        environment = {"LOYALTY_WEBHOOKS_API": self.root, "LOYALTY_WEBHOOKS_KEY": key}
        ended = await run(*arguments, directory=self.directory, environment=environment)
        assert ended.code == code, ended.output + ended.errors
        return ended

    async def get(self, path: str) -> Any:
        """GET below the store."""
        answer = await self.api.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any) -> Any:
        """POST below the store, accepted."""
        answer = await self.api.post(path, body)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    async def subscribe(self, url: str, **fields: Any) -> str:
        """A new subscription to CustomerUpdated, which retries after a minute."""
        body = {"eventName": "CustomerUpdated", "url": url, "retrySchedule": [60], **fields}
        return str((await self.post("webhook/subscription", {"webhookSubscription": body}))["webhookSubscriptionId"])

    async def emit(self) -> str:
        """A new event's id."""
        return str((await self.post("event", {"event": {"eventName": "CustomerUpdated", "data": {}}}))["eventId"])

    async def until(self, event_id: str, subscription_id: str, state: str, attempts: int) -> str:
        """Wait until the subscription's delivery of the event is so; its id."""

        async def found() -> list[Any]:
            query = f"webhook/delivery?eventId={event_id}&webhookSubscriptionId={subscription_id}"
            return list((await self.get(query))["items"])

        async def reached() -> bool:
            items = await found()
            # A failed first attempt is over when the next one is planned.
            planned = state != "pending" or (bool(items) and items[0]["nextAttemptAt"] is not None)
            return planned and [(one["status"], one["attempts"]) for one in items] == [(state, attempts)]

        await eventually(reached, PATIENCE_SECONDS, f"{state} after {attempts} attempts")
        return str((await found())[0]["messageId"])


@pytest.fixture(scope="module")
async def person(
    module_database_url: str, temporal: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Person]:
    async with acting_installation(module_database_url, temporal) as acting, serving(acting.api.app) as root:
        yield Person(acting, root, tmp_path_factory.mktemp("acts"))


async def test_the_command_line_acts_on_a_subscription(person: Person, receiver: Receiver) -> None:
    subscription = await person.subscribe(receiver.url("/hook"))
    paused = await person.cli("subscription", "pause", subscription)
    assert "is paused" in paused.output
    event = await person.emit()
    await person.until(event, subscription, "held", 0)
    explained = await person.cli("explain", event, "--subscription", subscription)
    assert "paused" in explained.output
    assert "Resume the webhook." in explained.output
    await person.cli("subscription", "resume", subscription)
    await person.until(event, subscription, "delivered", 1)
    tested = await person.cli("subscription", "send-test", subscription)
    assert "Delivered" in tested.output
    assert receiver.requests[-1].header("X-Webhook-Test") == "true"
    receiver.script(status(404))
    failed = await person.cli("subscription", "send-test", subscription, code=1)
    assert "404 rejected, http_4xx" in failed.errors
    await person.cli("subscription", "disable", subscription)
    refused = await person.cli("subscription", "resume", subscription, code=1)
    assert "enable it" in refused.errors
    missed = await person.emit()
    await person.until(missed, subscription, "exhausted", 0)
    await person.cli("subscription", "enable", subscription)
    counted = await person.cli("recover", subscription, "--since", "1h", "--status", "gave-up", "--dry-run")
    assert "1 delivery matches." in counted.output
    recovered = await person.cli("recover", subscription, "--since", "1h", "--yes")
    assert "1 of 1 deliveries opened: 1 delivered, 0 failed again, 0 still waiting." in recovered.output
    await person.until(missed, subscription, "delivered", 1)
    later = await person.subscribe(receiver.url("/later"))
    await person.cli("backfill", later, "--since", "1h", "--yes")
    await person.until(missed, later, "delivered", 1)
    [recover_id] = re.findall(r"Recovery (\S+) has begun", recovered.output)
    over = await person.cli("recover", "--cancel", recover_id, code=1)
    assert "finished already" in over.errors
    for one in (subscription, later):
        await person.cli("subscription", "disable", one)


async def test_the_command_line_acts_on_a_delivery(person: Person, receiver: Receiver) -> None:
    receiver.script(status(503), status(200), status(200), status(503))
    subscription = await person.subscribe(receiver.url("/hook"))
    event = await person.emit()
    delivery = await person.until(event, subscription, "pending", 1)
    refused = await person.cli("delivery", "redeliver", delivery, code=1)
    assert "The delivery is waiting; send-now" in refused.errors
    await person.cli("delivery", "send-now", delivery)
    await person.until(event, subscription, "delivered", 2)
    await person.acting.attempted_by_hand(delivery)
    await person.cli("delivery", "redeliver", delivery)
    await person.until(event, subscription, "delivered", 3)
    another = await person.emit()
    delivery = await person.until(another, subscription, "pending", 1)
    await person.cli("delivery", "cancel", delivery)
    await person.until(another, subscription, "cancelled", 1)
    explained = await person.cli("explain", another, "--json")
    items = json.loads(explained.output)["items"]
    assert {item["webhookSubscriptionId"]: item["code"] for item in items}[subscription] == "cancelled_by_person"
    await person.cli("subscription", "disable", subscription)


async def test_what_names_nothing_or_nobody_is_said_clearly(person: Person) -> None:
    nothing = "00000000-0000-4000-8000-000000000000"
    for words in (("subscription", "pause"), ("delivery", "cancel")):
        assert "Not found in store" in (await person.cli(*words, nothing, code=1)).errors
    assert "event_unknown" in (await person.cli("explain", nothing, code=1)).output
    assert "2026-01-02T03:04:05Z" in (await person.cli("recover", nothing, "--since", "monday", code=2)).errors
    no_end = await person.cli("recover", nothing, "--since", "1h", "--status", "waiting", code=2)
    assert "delivered, gave-up, cancelled" in " ".join(no_end.errors.replace("│", " ").split())
    refused = await person.cli("subscription", "pause", nothing, "--key", "wrong", code=2)
    assert "the key is not accepted" in refused.errors
    away = await person.cli("explain", nothing, "--api", "http://127.0.0.1:9", "--key", "x", code=2)
    assert "cannot be reached" in away.errors


async def test_a_recovery_is_not_begun_without_a_yes(person: Person, receiver: Receiver) -> None:
    receiver.script(status(404))
    subscription = await person.subscribe(receiver.url("/hook"), retrySchedule=[])
    event = await person.emit()
    await person.until(event, subscription, "exhausted", 1)
    await person.cli("recover", subscription, "--since", "1h", code=1)
    assert (await person.get(f"webhook/delivery?eventId={event}&webhookSubscriptionId={subscription}"))["items"][0][
        "status"
    ] == "exhausted"
    await person.cli("subscription", "disable", subscription)
