"""A window of time is delivered again, or to a new subscription, or it is refused with the reason."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from domain.delivery.identity import bulk_action_workflow_id
from tests.api.acting import ActionStarts
from tests.deadlines import eventually
from tests.receiver import Receiver, status

SINCE = "2020-01-01T00:00:00Z"


class TestRecover:
    async def test_a_dry_run_counts_and_a_recovery_delivers_what_ended_in_the_window(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.script(status(404), status(404))
        subscription = await acting.subscribe(receiver.url("/hook"), retrySchedule=[])
        events = []
        for outcome in ("exhausted", "exhausted", "delivered"):
            events.append(await acting.emit())
            await acting.until(events[-1], outcome, 1)
        path = f"subscription/{subscription}/recover"
        everything = {"since": SINCE, "statuses": ["exhausted", "delivered", "cancelled"], "dryRun": True}
        assert (await acting.acted(path, {"recover": everything}))["count"] == 3
        past = {"since": SINCE, "until": "2020-01-02T00:00:00Z", "dryRun": True}
        assert (await acting.acted(path, {"recover": past}))["count"] == 0
        begun = await acting.acted(path, {"recover": {"since": SINCE}})
        assert begun["count"] == 2
        for event in events[:2]:
            await acting.until(event, "delivered", 2)
        assert len(receiver.requests) == 5

        async def finished() -> bool:
            return bool((await acting.look(f"recover/{begun['recoverId']}"))["status"] == "finished")

        await eventually(finished, 30, "the end of the recovery")
        found = await acting.look(f"recover/{begun['recoverId']}")
        assert (found["done"], found["count"], found["webhookSubscriptionId"]) == (2, 2, subscription)
        assert "finished already" in await acting.refused(f"recover/{begun['recoverId']}/cancel")
        assert [action for action, *_ in await acting.audit()] == ["recover"]

    async def test_one_of_a_subscription_at_a_time_until_it_is_cancelled(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        subscription = await acting.subscribe(receiver.url("/hook"))
        event = await acting.emit()
        await acting.until(event, "delivered", 1)
        await acting.fail_before(subscription, event, 600)
        await acting.acted(f"subscription/{subscription}/pause")  # it opens a page, and waits for that to be sent
        path = f"subscription/{subscription}/recover"
        begun = await acting.acted(path, {"recover": {"since": SINCE}})
        assert begun["count"] == 600

        async def a_page_is_open() -> bool:
            return bool((await acting.look(f"recover/{begun['recoverId']}"))["opened"] == 500)

        await eventually(a_page_is_open, 20, "a page")
        assert begun["recoverId"] in await acting.refused(path, {"recover": {"since": SINCE}})
        stopped = await acting.acted(f"recover/{begun['recoverId']}/cancel")
        assert (stopped["status"], stopped["opened"], stopped["waiting"]) == ("cancelled", 500, 500)
        assert (stopped["done"], stopped["delivered"], stopped["failedAgain"]) == (0, 0, 0)
        workflow_id = bulk_action_workflow_id("recover", UUID(begun["recoverId"]))
        workflow = acting.running.client.get_workflow_handle(workflow_id)
        async with asyncio.timeout(10):
            await workflow.result()
        await acting.acted(f"subscription/{subscription}/disable")

    @pytest.mark.parametrize(
        ("recover", "path"),
        [
            pytest.param({}, "since", id="since is required"),
            pytest.param({"since": "2020-01-01T00:00:00"}, "since", id="with an offset"),
            pytest.param({"since": "9999-01-01T00:00:00Z"}, "since", id="in the past"),
            pytest.param({"since": SINCE, "until": SINCE}, "until", id="until is later"),
            pytest.param({"since": SINCE, "statuses": ["pending"]}, "statuses.0", id="what has ended"),
            pytest.param({"since": SINCE, "statuses": []}, "statuses", id="something"),
            pytest.param({"since": SINCE, "ratePerSecond": 0}, "ratePerSecond", id="a rate"),
            pytest.param({"since": SINCE, "dryrun": True}, "dryrun", id="no unknown field"),
        ],
    )
    async def test_a_window_that_is_none_is_refused(self, acting: ActionStarts, recover: Any, path: str) -> None:
        subscription = await acting.subscribe("http://127.0.0.1:9/")
        answer = await acting.act(f"subscription/{subscription}/recover", {"recover": recover})
        assert answer.status_code == 400, answer.text
        assert path in [error["path"] for error in answer.json()["errors"]]

    async def test_not_while_disabled_and_at_no_pace_of_its_own_where_order_has_one(self, acting: ActionStarts) -> None:
        subscription = await acting.subscribe("http://127.0.0.1:9/", ordered=True)
        path = f"subscription/{subscription}"
        for act in ("recover", "backfill"):
            for dry in (True, False):
                paced = {act: {"since": SINCE, "ratePerSecond": 5, "dryRun": dry}}
                assert "rateLimitPerSecond" in await acting.refused(f"{path}/{act}", paced)
        await acting.acted(f"{path}/disable")
        for act in ("recover", "backfill"):
            for dry in (True, False):
                window = {act: {"since": SINCE, "dryRun": dry}}
                assert "enable it first" in await acting.refused(f"{path}/{act}", window)


class TestBackfill:
    async def test_what_came_before_is_counted_then_delivered_once(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        events = [await acting.emit() for _ in range(3)]
        await acting.emit("CustomerRegistered")
        subscription = await acting.subscribe(receiver.url("/hook"))
        own = await acting.emit()
        await acting.until(own, "delivered", 1)
        path = f"subscription/{subscription}/backfill"
        [item] = (await acting.explain(events[0], subscription))["items"]
        assert (item["code"], "Backfill" in item["remedy"]) == ("created_after", True)
        dry = await acting.acted(path, {"backfill": {"since": SINCE, "dryRun": True}})
        assert dry == {"backfillId": None, "count": 3}
        past = {"since": SINCE, "until": "2020-01-02T00:00:00Z", "dryRun": True}
        assert (await acting.acted(path, {"backfill": past}))["count"] == 0
        begun = await acting.acted(path, {"backfill": {"since": SINCE, "ratePerSecond": 100}})
        for event in events:
            await acting.until(event, "delivered", 1)
        await eventually(lambda: self._finished(acting, begun["backfillId"]), 30, "the end of the backfill")
        found = await acting.look(f"backfill/{begun['backfillId']}")
        assert (found["count"], found["opened"], found["done"], found["delivered"]) == (3, 3, 3, 3)
        assert len(receiver.requests) == 4
        explained = (await acting.explain(events[0], subscription))["items"][0]
        assert explained["code"] == "delivered"
        assert explained["text"].startswith("A person backfilled it.")
        assert not (await acting.explain(own, subscription))["items"][0]["text"].startswith("A person")
        assert "finished already" in await acting.refused(f"backfill/{begun['backfillId']}/cancel")
        assert await acting.audit() == [("backfill", "subscription", subscription)]
        assert (await acting.api.get(f"webhook/recover/{begun['backfillId']}")).status_code == 404

    async def _finished(self, acting: ActionStarts, backfill_id: str) -> bool:
        return bool((await acting.look(f"backfill/{backfill_id}"))["status"] == "finished")

    async def test_one_act_at_a_time_until_it_is_cancelled(self, acting: ActionStarts, receiver: Receiver) -> None:
        event = await acting.emit()
        subscription = await acting.subscribe(receiver.url("/hook"))
        await acting.acted(f"subscription/{subscription}/pause")
        path = f"subscription/{subscription}/backfill"
        begun = await acting.acted(path, {"backfill": {"since": SINCE}})
        await acting.until(event, "held", 0)
        [item] = (await acting.explain(event, subscription))["items"]
        assert (item["code"], item["text"].startswith("A person backfilled it.")) == ("paused", True)
        assert begun["backfillId"] in await acting.refused(path, {"backfill": {"since": SINCE}})
        recover = {"recover": {"since": SINCE}}
        assert "Backfill" in await acting.refused(f"subscription/{subscription}/recover", recover)
        stopped = await acting.acted(f"backfill/{begun['backfillId']}/cancel")
        assert (stopped["status"], stopped["opened"], stopped["waiting"]) == ("cancelled", 1, 1)
        workflow_id = bulk_action_workflow_id("backfill", UUID(begun["backfillId"]))
        workflow = acting.running.client.get_workflow_handle(workflow_id)
        async with asyncio.timeout(10):
            await workflow.result()
        assert await acting.audit() == [
            ("pause", "subscription", subscription),
            ("backfill", "subscription", subscription),
            ("cancel", "backfill", begun["backfillId"]),
        ]
