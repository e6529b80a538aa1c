"""Why an event did not arrive is answered for every subscription of the store."""

from uuid import UUID, uuid4

import pytest

from tests.api.acting import EVENT, ActionStarts, in_a_new_store
from tests.receiver import Receiver, status


class TestExplain:
    async def test_every_subscription_of_the_store_is_explained(self, acting: ActionStarts, receiver: Receiver) -> None:
        delivered = await acting.subscribe(receiver.url("/hook"))
        later = await acting.subscribe(receiver.url("/later"), activeFrom="2100-01-01T00:00:00Z")
        deleted = await acting.subscribe(receiver.url("/deleted"))
        await acting.api.client.delete(acting.api.url(f"webhook/subscription/{deleted}"))
        other = await acting.subscribe(receiver.url("/other"), eventName="CustomerRegistered")
        event = await acting.emit()
        await acting.until(event, "delivered", 1)
        after = await acting.subscribe(receiver.url("/after"))
        found = await acting.explain(event)
        assert (found["code"], found["eventName"]) == ("event_matched", EVENT)
        assert {item["webhookSubscriptionId"]: item["code"] for item in found["items"]} == {
            delivered: "delivered",
            later: "not_yet_active",
            deleted: "deleted_before",
            after: "created_after",
            other: "other_event_name",
        }
        assert found["items"][-1]["webhookSubscriptionId"] == other, "those to the event come first"
        [alone] = (await acting.explain(event, later))["items"]
        assert alone["code"] == "not_yet_active"
        nobodys = await acting.api.get(f"webhook/explain?eventId={event}&webhookSubscriptionId={uuid4()}")
        assert nobodys.status_code == 404

    async def test_a_held_delivery_says_what_the_receiver_answered_last_and_where(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.otherwise = status(503)
        subscription = await acting.subscribe(receiver.url("/hook"))
        await acting.subscribe(receiver.url("/another"), eventName="CustomerRegistered")
        failed = [await acting.until(await acting.emit(), "pending", 1) for _ in range(3)]
        waiting = await acting.emit()
        message_id = await acting.until(waiting, "held", 0)
        [item, _] = (await acting.explain(waiting))["items"]
        assert item["code"] == "breaker_open"
        assert "The last failure (503 server error, http_5xx)" in item["text"]
        assert item["lastAnswerMessageId"] == failed[-1]
        assert item["nextAttemptAt"] is not None
        of_delivery = await acting.explain(message_id)
        assert (of_delivery["eventId"], of_delivery["items"]) == (waiting, [item]), "a message id explains its delivery"
        await acting.acted(f"subscription/{subscription}/disable")

    async def test_an_unknown_event_is_explained_with_likely_causes(
        self, acting: ActionStarts, acting_installed: ActionStarts
    ) -> None:
        assert (await acting.explain(str(uuid4())))["code"] == "event_unknown"
        elsewhere = await in_a_new_store(acting_installed)
        found = await acting.explain(await elsewhere.emit())
        assert (found["code"], found["items"]) == ("event_elsewhere", [])
        assert elsewhere.api.store in found["text"]

    async def test_a_refused_emit_is_remembered_without_its_body(self, acting: ActionStarts) -> None:
        alone, wrong, right = (str(uuid4()) for _ in range(3))
        answer = await acting.api.emit(EVENT, {"customer": "secret"}, eventId=alone)
        assert answer.status_code == 400
        batch = [
            {"eventName": EVENT, "data": {}, "eventId": right},
            {"eventName": "CustomerUpdate", "data": {}, "eventId": wrong},
        ]
        assert (await acting.api.post("event/batch", batch)).status_code == 400
        for event_id, because in ((alone, "data.customer: "), (wrong, "eventName: no event"), (right, "its batch")):
            found = await acting.explain(event_id)
            assert found["code"] == "event_rejected", found
            assert because in found["text"]
            assert "secret" not in found["text"]
        past = "UPDATE rejected_emit SET rejected_at = now() - interval '8 days' WHERE store_code = :store"
        await acting.api.execute(past, store=acting.api.store)
        assert (await acting.explain(alone))["code"] == "event_unknown"
        await acting.api.emit("Nothing", {}, eventId=wrong)
        left = "SELECT count(*) FROM rejected_emit WHERE store_code = :store"
        assert (await acting.api.execute(left, store=acting.api.store))[0][0] == 1
        await acting.api.emit(EVENT, {}, eventId=wrong)
        assert (await acting.explain(wrong))["code"] in ("event_waiting", "event_matched")

    @pytest.mark.parametrize(
        "query",
        ["", "eventId=x", "eventId={id}&eventId={id}", "eventId={id}&webhookSubscriptionId=x", "eventId={id}&page=1"],
    )
    async def test_a_question_that_is_none_is_refused(self, acting: ActionStarts, query: str) -> None:
        answer = await acting.api.get(f"webhook/explain?{query.format(id=UUID(int=1))}")
        assert answer.status_code == 400, answer.text
