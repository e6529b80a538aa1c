"""The test of a webhook's form before it is saved: one request for each event, with the result of each."""

import json
import re
from itertools import islice

from domain.events.catalogue import CATALOGUE
from storage.subscriptions.draft_tests import DRAFT_TESTS_A_MINUTE
from tests.api.acting import ActionStarts
from tests.panel.visitor import Visitor
from tests.receiver import Receiver, raw, response, status


async def test_each_event_of_the_form_is_tested_and_has_its_result(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    receiver.script(status(503))
    await editor.get(f"/admin/{acting.api.store}/webhooks/new")
    events = [*islice(CATALOGUE, DRAFT_TESTS_A_MINUTE + 1)]
    fields = {"url": receiver.url("/hook"), "eventName": events}
    answer = await editor.post(f"/admin/{acting.api.store}/webhooks/draft-test", fields)
    results = re.findall(r"<h3 .*?>(\w+): (.*?)</h3>", answer.text)
    assert [name for name, _ in results] == events
    assert sorted(result for _, result in results) == [
        *["Delivered"] * (DRAFT_TESTS_A_MINUTE - 1),
        "Not sent",
        "This would have been a failed attempt",
    ]
    assert "tests a minute; try again in" in answer.text
    sent = {json.loads(request.body)["eventName"] for request in receiver.requests}
    assert sent == {name for name, result in results if result != "Not sent"}
    refused = await editor.post(f"/admin/{acting.api.store}/webhooks/draft-test", {**fields, "eventName": events[0]})
    assert "tests a minute" in refused.json()["errors"][""]


async def test_a_form_with_an_event_that_is_refused_sends_no_test(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    await editor.get(f"/admin/{acting.api.store}/webhooks/new")
    with_form = next(name for name, event_type in CATALOGUE.items() if event_type.legacy)
    without = next(name for name, event_type in CATALOGUE.items() if not event_type.legacy)
    fields = {"url": receiver.url("/hook"), "eventName": [with_form, without], "legacy": "true"}
    answer = await editor.post(f"/admin/{acting.api.store}/webhooks/draft-test", fields)
    assert set(answer.json()["errors"]) == {"legacy"}
    assert receiver.requests == []
    allowed = {**fields, "eventName": with_form}  # a test would have come before the answer to this one
    assert "Delivered" in (await editor.post(f"/admin/{acting.api.store}/webhooks/draft-test", allowed)).text
    assert len(receiver.requests) == 1


async def test_a_delivered_test_tells_what_was_odd(acting: ActionStarts, editor: Visitor, receiver: Receiver) -> None:
    receiver.script(raw(response() + b"x"))
    await editor.get(f"/admin/{acting.api.store}/webhooks/new")
    fields = {"url": receiver.url("/hook"), "eventName": next(iter(CATALOGUE))}
    answer = await editor.post(f"/admin/{acting.api.store}/webhooks/draft-test", fields)
    assert "<p>Odd: bytes behind the response</p>" in answer.text


async def test_the_notice_after_tests_of_chosen_webhooks_names_those_that_failed(
    acting: ActionStarts, editor: Visitor, receiver: Receiver
) -> None:
    async with Receiver() as broken:
        broken.script(status(503))
        ids = [
            await acting.subscribe(receiver.url("/hook"), name="CRM"),
            await acting.subscribe(broken.url("/hook"), name="Tills"),
        ]
        await editor.get(f"/admin/{acting.api.store}/webhooks")
        fields = {"act": "test", "webhookSubscriptionId": ids}
        answer = await editor.post(f"/admin/{acting.api.store}/webhooks/chosen", fields)
    text = (await editor.get(answer.headers["location"])).text
    assert "1 tested: delivered" in text
    assert "Tills · CustomerUpdated: test failed (503 server error, http_5xx)" in text
