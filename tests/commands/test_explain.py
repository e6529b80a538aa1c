"""`explain` prints what the API answers: for each subscription a code, a text, a remedy and where to look."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.commands.running import run
from tests.receiver import Receiver, status

WORDS = {"code": "delivered", "text": "Delivered.", "remedy": "Nothing."}


@pytest.mark.parametrize("last", ["none", "itself", "another"])
async def test_the_delivery_that_failed_last_is_named_if_it_is_another(
    receiver: Receiver, tmp_path: Path, last: str
) -> None:
    message_id, another = str(uuid4()), str(uuid4())
    answers = {"none": None, "itself": message_id, "another": another}
    item = {"webhookSubscriptionId": str(uuid4()), "name": "CRM", "url": "https://receiver.example.com/"} | WORDS
    items = [{**item, "messageId": message_id, "temporalUrl": None, "lastAnswerMessageId": answers[last]}]
    answer = {"eventId": str(uuid4()), "eventName": "CustomerUpdated", "items": items, **WORDS}
    receiver.script(status(200, body=json.dumps(answer).encode()))
    environment = {"LOYALTY_WEBHOOKS_API": receiver.url("").rstrip("/"), "LOYALTY_WEBHOOKS_KEY": "key"}
    ended = await run("explain", message_id, "--store", "default", directory=tmp_path, environment=environment)
    assert ended.code == 0, ended.errors
    named = [line.strip() for line in ended.output.splitlines() if "failed last" in line]
    assert named == ([f"failed last: delivery {another}"] if last == "another" else [])


@pytest.mark.parametrize("url", ["http://temporal.example.com/namespaces/default/workflows/event", None])
async def test_a_delivery_is_shown_with_its_link_to_temporal(
    receiver: Receiver, tmp_path: Path, url: str | None
) -> None:
    event_id, message_id, subscription_id = (str(uuid4()) for _ in range(3))
    item = {"webhookSubscriptionId": subscription_id, "name": "CRM", "url": "https://receiver.example.com/"} | WORDS
    item_with_delivery = {**item, "messageId": message_id, "lastAnswerMessageId": None, "temporalUrl": url}
    answer = {"eventId": event_id, "eventName": "CustomerUpdated", "items": [item_with_delivery], **WORDS}
    receiver.script(status(200, body=json.dumps(answer).encode()))
    environment = {"LOYALTY_WEBHOOKS_API": receiver.url("").rstrip("/"), "LOYALTY_WEBHOOKS_KEY": "key"}
    ended = await run("explain", event_id, "--store", "default", directory=tmp_path, environment=environment)
    assert ended.code == 0, ended.errors
    assert f"delivery {message_id}" in ended.output
    assert "None" not in ended.output
    assert [line.strip() for line in ended.output.splitlines() if "temporal" in line] == ([url] if url else [])
    assert receiver.requests[0].target == f"/api/default/webhook/explain?eventId={event_id}"
