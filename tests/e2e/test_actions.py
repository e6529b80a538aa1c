"""Each act through the command line and the API, on a whole stack."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.stack_file import Stack
from tests.api.acting import AT_ONCE_SECONDS
from tests.commands.running import Ended, run
from tests.deadlines import eventually
from tests.receiver import Receiver, status
from tests.stack import running_stack

pytestmark = pytest.mark.stack

PATIENCE_SECONDS = 30.0
SETTINGS = {"BREAKER_FAILURES": "1000"}  # a test's receiver fails as it is told


@dataclass
class Person:
    """Somebody with a terminal and an HTTP client, at a running stack."""

    stack: Stack
    http: httpx.AsyncClient
    directory: Path

    async def cli(self, *arguments: str, code: int = 0) -> Ended:
        """Run the command; it ends with this exit code."""
        environment = {"LOYALTY_WEBHOOKS_API": self.stack.api, "LOYALTY_WEBHOOKS_KEY": self.stack.api_key}
        ended = await run(*arguments, directory=self.directory, environment=environment)
        assert ended.code == code, ended.output + ended.errors
        return ended

    async def get(self, path: str) -> Any:
        """GET below the store."""
        answer = await self.http.get(f"/api/{self.stack.store}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None) -> Any:
        """POST below the store, accepted."""
        answer = await self.http.post(f"/api/{self.stack.store}/{path}", json=body)
        assert answer.status_code in (200, 202), answer.text
        return answer.json() if answer.content else None

    async def subscribe(self, url: str, **fields: Any) -> str:
        """A new subscription to CustomerUpdated, which retries after a minute."""
        body = {"eventName": "CustomerUpdated", "url": url, "retrySchedule": [60], **fields}
        return str((await self.post("webhook/subscription", {"webhookSubscription": body}))["webhookSubscriptionId"])

    async def emit(self) -> str:
        """A new event's id."""
        return str((await self.post("event", {"event": {"eventName": "CustomerUpdated", "data": {}}}))["eventId"])

    async def until(
        self, event_id: str, subscription_id: str, state: str, attempts: int, seconds: float = PATIENCE_SECONDS
    ) -> str:
        """Wait until the subscription's delivery of the event is so; its id."""

        async def found() -> list[Any]:
            query = f"webhook/delivery?eventId={event_id}&webhookSubscriptionId={subscription_id}"
            return list((await self.get(query))["items"])

        async def reached() -> bool:
            items = await found()
            # A failed first attempt is over when the next one is planned.
            planned = state != "pending" or (bool(items) and items[0]["nextAttemptAt"] is not None)
            return planned and [(one["status"], one["attempts"]) for one in items] == [(state, attempts)]

        await eventually(reached, seconds, f"{state} after {attempts} attempts")
        return str((await found())[0]["messageId"])

    async def explained(self, event_id: str, subscription_id: str) -> str:
        """Why the event did not arrive at the subscription: the code."""
        query = f"webhook/explain?eventId={event_id}&webhookSubscriptionId={subscription_id}"
        return str((await self.get(query))["items"][0]["code"])


@pytest.fixture(scope="module")
async def person(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    directory = tmp_path_factory.mktemp("acts")
    with running_stack(directory, environment=SETTINGS) as stack:
        headers = {"X-AUTH-TOKEN": stack.api_key}
        async with httpx.AsyncClient(base_url=stack.api, headers=headers, trust_env=False) as http:
            yield Person(stack, http, directory)


async def test_the_command_line_acts_on_a_subscription(person: Person, receiver: Receiver) -> None:
    subscription = await person.subscribe(receiver.url("/hook"))
    paused = await person.cli("subscription", "pause", subscription)
    assert "is paused" in paused.output
    event = await person.emit()
    await person.until(event, subscription, "held", 0)
    explained = await person.cli("explain", event, "--subscription", subscription)
    assert "paused" in explained.output
    assert "Resume the subscription." in explained.output
    await person.cli("subscription", "resume", subscription)
    await person.until(event, subscription, "delivered", 1)
    tested = await person.cli("subscription", "send-test", subscription)
    assert "Delivered" in tested.output
    assert receiver.requests[-1].header("X-Webhook-Test") == "true"
    receiver.script(status(404))
    failed = await person.cli("subscription", "send-test", subscription, code=1)
    assert "http_4xx, status 404" in failed.errors
    await person.cli("subscription", "disable", subscription)
    refused = await person.cli("subscription", "resume", subscription, code=1)
    assert "enable it" in refused.errors
    missed = await person.emit()
    await person.until(missed, subscription, "exhausted", 0)
    await person.cli("subscription", "enable", subscription)
    counted = await person.cli("recover", subscription, "--since", "1h", "--dry-run")
    assert "1 deliveries match." in counted.output
    recovered = await person.cli("recover", subscription, "--since", "1h", "--yes")
    assert "1 of 1 deliveries opened: 1 delivered, 0 failed again, 0 still waiting." in recovered.output
    await person.until(missed, subscription, "delivered", 1)
    [recover_id] = re.findall(r"Recovery (\S+) has begun", recovered.output)
    over = await person.cli("recover", "--cancel", recover_id, code=1)
    assert "finished already" in over.errors
    await person.cli("subscription", "disable", subscription)


async def test_the_command_line_acts_on_a_delivery(person: Person, receiver: Receiver) -> None:
    receiver.script(status(503), status(200), status(200), status(503))
    subscription = await person.subscribe(receiver.url("/hook"))
    event = await person.emit()
    delivery = await person.until(event, subscription, "pending", 1)
    refused = await person.cli("delivery", "redeliver", delivery, code=1)
    assert "still being delivered" in refused.errors
    await person.cli("delivery", "send-now", delivery)
    await person.until(event, subscription, "delivered", 2)
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
    assert "event_unknown" in (await person.cli("explain", nothing)).output
    assert "2026-01-02T03:04:05Z" in (await person.cli("recover", nothing, "--since", "monday", code=2)).errors
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


@dataclass(frozen=True)
class Scene:
    """A subscription, an event of it and its delivery, and which of them the act is on."""

    subscription: str
    event: str
    acted_on: str


async def waiting(person: Person, receiver: Receiver) -> Scene:
    """A delivery that waits a minute for its retry; the act is on it."""
    receiver.script(status(503))
    subscription = await person.subscribe(receiver.url("/hook"))
    event = await person.emit()
    return Scene(subscription, event, await person.until(event, subscription, "pending", 1))


async def subscribed(person: Person, receiver: Receiver) -> Scene:
    """The same; the act is on the subscription."""
    scene = await waiting(person, receiver)
    return Scene(scene.subscription, scene.event, scene.subscription)


async def held(person: Person, receiver: Receiver) -> Scene:
    """A delivery that a pause holds."""
    subscription = await person.subscribe(receiver.url("/hook"))
    await person.post(f"webhook/subscription/{subscription}/pause")
    event = await person.emit()
    await person.until(event, subscription, "held", 0)
    return Scene(subscription, event, subscription)


async def disabled(person: Person, receiver: Receiver) -> Scene:
    """A subscription that is sent nothing, and a delivery that ended by that."""
    scene = await subscribed(person, receiver)
    await person.post(f"webhook/subscription/{scene.subscription}/disable")
    await person.until(scene.event, scene.subscription, "exhausted", 1)
    return scene


async def delivered(person: Person, receiver: Receiver) -> Scene:
    """A delivery that has arrived."""
    subscription = await person.subscribe(receiver.url("/hook"))
    event = await person.emit()
    return Scene(subscription, event, await person.until(event, subscription, "delivered", 1))


async def exhausted(person: Person, receiver: Receiver) -> Scene:
    """A delivery that has failed for good."""
    receiver.script(status(503))
    subscription = await person.subscribe(receiver.url("/hook"), retrySchedule=[])
    event = await person.emit()
    await person.until(event, subscription, "exhausted", 1)
    return Scene(subscription, event, subscription)


async def late(person: Person, receiver: Receiver) -> Scene:
    """A subscription that came after its event."""
    event = await person.emit()
    subscription = await person.subscribe(receiver.url("/hook"))
    return Scene(subscription, event, subscription)


async def is_paused(person: Person, _: Receiver, scene: Scene) -> None:
    assert await person.explained(scene.event, scene.subscription) == "paused"


async def goes_on(person: Person, _: Receiver, scene: Scene) -> None:
    await person.until(await person.emit(), scene.subscription, "delivered", 1, AT_ONCE_SECONDS)


async def is_tested(person: Person, receiver: Receiver, scene: Scene) -> None:
    async def arrived() -> bool:
        return receiver.requests[-1].header("X-Webhook-Test") == "true"

    await eventually(arrived, AT_ONCE_SECONDS, "the test's request")
    await person.until(scene.event, scene.subscription, "pending", 1)


def becomes(state: str, attempts: int) -> "Then":
    async def then(person: Person, _: Receiver, scene: Scene) -> None:
        await person.until(scene.event, scene.subscription, state, attempts, AT_ONCE_SECONDS)

    return then


Given = Callable[[Person, Receiver], Awaitable[Scene]]
Then = Callable[[Person, Receiver, Scene], Awaitable[None]]

ACTS: dict[str, tuple[str, Given, Then]] = {
    "pause": ("subscription", subscribed, is_paused),
    "resume": ("subscription", held, becomes("delivered", 1)),
    "disable": ("subscription", subscribed, becomes("exhausted", 1)),
    "enable": ("subscription", disabled, goes_on),
    "send-test": ("subscription", subscribed, is_tested),
    "redeliver": ("delivery", delivered, becomes("delivered", 2)),
    "send-now": ("delivery", waiting, becomes("delivered", 2)),
    "cancel": ("delivery", waiting, becomes("cancelled", 1)),
    "recover": ("window", exhausted, becomes("delivered", 2)),
    "backfill": ("window", late, becomes("delivered", 1)),
}
"""By name: what it is on, what is so before, and what follows within two seconds of the answer."""


def a_minute_ago() -> str:
    """Since when there is something to recover or to backfill."""
    return (datetime.now(UTC) - timedelta(minutes=1)).isoformat()


async def by_api(person: Person, kind: str, act: str, acted_on: str) -> None:
    """The act as a call."""
    body = {act: {"since": a_minute_ago()}} if kind == "window" else None
    await person.post(f"webhook/{'subscription' if kind == 'window' else kind}/{acted_on}/{act}", body)


async def by_command(person: Person, kind: str, act: str, acted_on: str) -> None:
    """The act as a command."""
    if kind == "window":
        await person.cli(act, acted_on, "--since", a_minute_ago(), "--yes")
    else:
        await person.cli(kind, act, acted_on)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("door", [by_api, by_command], ids=["api", "command line"])
async def test_an_act_does_what_it_says_at_once(
    person: Person, receiver: Receiver, door: Callable[[Person, str, str, str], Awaitable[None]], act: str
) -> None:
    kind, given, then = ACTS[act]
    scene = await given(person, receiver)
    try:
        await door(person, kind, act, scene.acted_on)
        await then(person, receiver, scene)
    finally:
        await person.http.delete(f"/api/{person.stack.store}/webhook/subscription/{scene.subscription}")
