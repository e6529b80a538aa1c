"""What a person does takes effect at once, or is refused with the reason."""

import asyncio
from dataclasses import replace
from functools import partial
from urllib.parse import quote
from uuid import UUID

import pytest
from temporalio.client import ActivityExecutionStatus, WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from api.temporal_links import existing_url
from domain.delivery.breaker import BreakerRules
from storage.subscriptions.queries import disable_by_system
from storage.subscriptions.state import record_health
from tests.api.acting import AT_ONCE_SECONDS, EVENT, ActionStarts
from tests.api.running import RunningApi, running_api
from tests.bulk_actions import fail_many
from tests.databases import blocks_another
from tests.deadlines import eventually
from tests.ground import Ground
from tests.receiver import Exchange, Receiver, status
from tests.tcp_proxy import tcp_proxy
from tests.temporal_server import activity_is_there

SINCE = "2020-01-01T00:00:00Z"


class Door:
    """A reply that waits until it is let out."""

    def __init__(self, code: int = 200) -> None:
        self.code = code
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.entered.set()
        await self.open.wait()
        await status(self.code)(exchange)


class TestSubscriptions:
    async def test_a_pause_holds_and_resuming_lets_go(self, acting: ActionStarts, receiver: Receiver) -> None:
        subscription = await acting.subscribe(receiver.url("/hook"))
        path = f"subscription/{subscription}"
        paused = await acting.acted(f"{path}/pause")
        assert (paused["status"], paused["active"]) == ("paused", False)
        assert paused["statusReason"] == "by api_key:test"
        assert await acting.acted(f"{path}/pause") == paused, "once is enough"
        event = await acting.emit()
        await acting.until(event, "held", 0)
        [item] = (await acting.explain(event))["items"]
        assert item["code"] == "paused"
        resumed = await acting.acted(f"{path}/resume")
        assert (resumed["status"], resumed["statusReason"]) == ("active", None)
        await acting.until(event, "delivered", 1, AT_ONCE_SECONDS)
        assert (await acting.acted(f"{path}/resume"))["statusSince"] == resumed["statusSince"]
        assert await acting.audit() == [
            ("pause", "subscription", subscription),
            ("resume", "subscription", subscription),
        ]

    async def test_disabling_ends_what_waits_and_recover_reaches_it(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.script(status(503))
        subscription = await acting.subscribe(receiver.url("/hook"))
        waiting = await acting.emit()
        await acting.until(waiting, "pending", 1)
        disabled = await acting.acted(f"subscription/{subscription}/disable")
        assert (disabled["status"], disabled["statusReason"]) == ("disabled", "by api_key:test")
        await acting.until(waiting, "exhausted", 1, AT_ONCE_SECONDS)
        missed = await acting.emit()
        await acting.until(missed, "exhausted", 0)
        assert (await acting.explain(missed, subscription))["items"][0]["code"] == "subscription_disabled"
        recover = {"recover": {"since": SINCE}}
        assert "enable it first" in await acting.refused(f"subscription/{subscription}/recover", recover)
        assert await acting.acted(f"subscription/{subscription}/disable") == disabled
        assert (await acting.acted(f"subscription/{subscription}/enable"))["status"] == "active"
        assert (await acting.acted(f"subscription/{subscription}/recover", recover))["count"] == 2
        await acting.until(waiting, "delivered", 2)
        await acting.until(missed, "delivered", 1)

    async def test_enabling_waits_for_a_recorder_that_is_about_to_disable(self, acting: ActionStarts) -> None:
        subscription = await acting.subscribe("http://127.0.0.1:9/")
        await acting.acted(f"subscription/{subscription}/disable")
        found = UUID(subscription)
        async with acting.api.database.transaction() as recorder:
            await record_health(recorder, (), {found: 1}, BreakerRules())
        async with acting.api.database.transaction() as recorder:
            await record_health(recorder, (), {found: 1}, BreakerRules())
            enabling = asyncio.create_task(acting.act(f"subscription/{subscription}/enable"))
            await eventually(partial(blocks_another, recorder), 30, "the enabling waits for the recorder")
            await disable_by_system(recorder, found, reason="http_gone")
        assert (await enabling).json()["status"] == "active"

    async def test_what_does_not_lead_there_is_refused_with_what_does(self, acting: ActionStarts) -> None:
        subscription = await acting.subscribe("http://127.0.0.1:9/")
        path = f"subscription/{subscription}"
        await acting.acted(f"{path}/enable")
        await acting.acted(f"{path}/pause")
        assert "resume it" in await acting.refused(f"{path}/enable")
        await acting.acted(f"{path}/disable")
        assert "enable it" in await acting.refused(f"{path}/resume")
        assert "enable it" in await acting.refused(f"{path}/pause")
        await acting.acted(f"{path}/enable")

    async def test_deleting_cancels_what_waits_at_once(self, acting: ActionStarts, receiver: Receiver) -> None:
        receiver.otherwise = status(503)
        retried = await acting.subscribe(receiver.url("/retried"))
        ordered = await acting.subscribe(receiver.url("/ordered"), ordered=True)
        paused = await acting.subscribe(receiver.url("/paused"))
        await acting.acted(f"subscription/{paused}/pause")
        event = await acting.emit()
        opened = {(retried, "pending", 1), (ordered, "held", 1), (paused, "held", 0)}

        async def are(expected: set[tuple[str, str, int]]) -> bool:
            found = await acting.deliveries(event)
            return {(one["webhookSubscriptionId"], one["status"], one["attempts"]) for one in found} == expected

        await eventually(lambda: are(opened), 20, "a retry that waits, one in order, one that is paused")
        for subscription in (retried, ordered, paused):
            path = f"webhook/subscription/{subscription}"
            assert (await acting.api.client.delete(acting.api.url(path))).status_code == 204
        cancelled = {(subscription, "cancelled", attempts) for subscription, _, attempts in opened}
        await eventually(lambda: are(cancelled), AT_ONCE_SECONDS, "nothing that waits")
        codes = [item["code"] for item in (await acting.explain(event))["items"]]
        assert codes == ["subscription_deleted"] * 3


class TestSendTest:
    async def test_it_goes_to_its_receiver_alone_and_is_marked(self, acting: ActionStarts, receiver: Receiver) -> None:
        subscription = await acting.subscribe(receiver.url("/hook"), legacy=True)
        await acting.subscribe(receiver.url("/other"))
        await acting.acted(f"subscription/{subscription}/pause")
        message_id = (await acting.acted(f"subscription/{subscription}/send-test"))["messageId"]
        found = await acting.ended(message_id)
        assert (found["status"], found["variant"], found["attempts"]) == ("delivered", "test", 1)
        assert [attempt["trigger"] for attempt in found["attemptList"]] == ["test"]
        [request] = receiver.requests
        assert (request.target, request.header("X-Webhook-Test")) == ("/hook", "true")
        assert request.body == found["body"].encode()
        explained = await acting.explain(found["eventId"])
        assert explained["code"] == "event_test"
        assert [item["code"] for item in explained["items"]] == ["delivered", "test_of_another"]
        for act in ("redeliver", "send-now"):
            assert await acting.refused(f"delivery/{message_id}/{act}")

    async def test_a_failing_one_is_tried_once_and_counts_for_nothing(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.otherwise = status(410)
        subscription = await acting.subscribe(receiver.url("/hook"))
        for _ in range(4):  # one more than open the breaker
            message_id = (await acting.acted(f"subscription/{subscription}/send-test"))["messageId"]
            found = await acting.ended(message_id)
            await eventually(lambda: self._is_over(acting, subscription), 30, "the test's workflow")
        assert (found["status"], found["reason"], found["lastFailure"]) == ("exhausted", "test", "http_gone")
        assert (await acting.explain(found["eventId"], subscription))["items"][0]["code"] == "test_failed"
        assert (await acting.look(f"subscription/{subscription}"))["status"] == "active"
        health = "SELECT 1 FROM subscription_health WHERE subscription_id = :id"
        assert await acting.api.execute(health, id=UUID(subscription)) == []
        dry = await acting.acted(f"subscription/{subscription}/recover", {"recover": {"since": SINCE, "dryRun": True}})
        assert dry == {"recoverId": None, "count": 0}

    async def _is_over(self, acting: ActionStarts, subscription: str) -> bool:
        handle = acting.running.client.get_workflow_handle(f"send-test/{subscription}")
        return (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED

    async def test_one_at_a_time(self, acting: ActionStarts, receiver: Receiver) -> None:
        door = Door()
        receiver.script(door)
        subscription = await acting.subscribe(receiver.url("/hook"))
        message_id = (await acting.acted(f"subscription/{subscription}/send-test"))["messageId"]
        await door.entered.wait()
        assert "Another test" in await acting.refused(f"subscription/{subscription}/send-test")
        door.open.set()
        await acting.ended(message_id)
        assert len((await acting.look(f"delivery?webhookSubscriptionId={subscription}"))["items"]) == 1


class TestRedeliver:
    async def test_a_delivered_one_is_sent_once_more_and_only_once_at_a_time(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        door = Door()
        receiver.script(status(200), door)
        await acting.subscribe(receiver.url("/hook"))
        event = await acting.emit()
        message_id = await acting.until(event, "delivered", 1)
        await acting.acted(f"delivery/{message_id}/redeliver")
        async with asyncio.timeout(AT_ONCE_SECONDS):
            await door.entered.wait()
        assert "is in progress" in await acting.refused(f"delivery/{message_id}/redeliver")
        door.open.set()
        await acting.until(event, "delivered", 2)
        attempts = (await acting.look(f"delivery/{message_id}"))["attemptList"]
        assert [attempt["trigger"] for attempt in attempts] == ["automatic", "manual"]
        audited = await acting.api.execute(
            "SELECT action, changes FROM audit WHERE object_id = :id ORDER BY id", id=message_id
        )
        outcome = {"outcome": "refused: another manual attempt is in progress"}
        assert [tuple(row) for row in audited] == [("redeliver", {})] * 2 + [("redeliver", outcome)]

    async def test_what_is_open_or_has_nowhere_to_go_is_refused(self, acting: ActionStarts, receiver: Receiver) -> None:
        receiver.script(status(200), status(503))
        subscription = await acting.subscribe(receiver.url("/hook"))
        message_id = await acting.until(await acting.emit(), "delivered", 1)
        pending = await acting.until(await acting.emit(), "pending", 1)
        assert "send-now" in await acting.refused(f"delivery/{pending}/redeliver")
        for act, word in (("pause", "paused"), ("disable", "disabled")):
            await acting.acted(f"subscription/{subscription}/{act}")
            assert word in await acting.refused(f"delivery/{message_id}/redeliver")
        deleted = await acting.api.client.delete(acting.api.url(f"webhook/subscription/{subscription}"))
        assert deleted.status_code == 204
        assert "deleted" in await acting.refused(f"delivery/{message_id}/redeliver")


async def behind_a_breaker(acting: ActionStarts, receiver: Receiver) -> tuple[str, str, str]:
    """(subscription, its delivery that arrived before, event that waits): the next probe is a minute away."""
    receiver.script(status(200), *[status(503)] * 3)
    subscription = await acting.subscribe(receiver.url("/hook"))
    arrived = await acting.until(await acting.emit(), "delivered", 1)
    for _ in range(3):
        await acting.until(await acting.emit(), "pending", 1)
    waiting = await acting.emit()
    await acting.until(waiting, "held", 0)
    [item] = (await acting.explain(waiting))["items"]
    assert item["code"] == "breaker_open"
    return subscription, arrived, waiting


class TestBehindABreaker:
    """A resume, a clean record or a success of a manual attempt lets go at once what waits for a probe."""

    async def test_resuming_probes_the_receiver_although_no_probe_is_due(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        subscription, _, waiting = await behind_a_breaker(acting, receiver)
        for act in ("pause", "resume"):
            await acting.acted(f"subscription/{subscription}/{act}")
        await acting.until(waiting, "delivered", 1, AT_ONCE_SECONDS)

    async def test_enabling_begins_with_a_clean_record(self, acting: ActionStarts, receiver: Receiver) -> None:
        subscription, _, _ = await behind_a_breaker(acting, receiver)
        for act in ("disable", "enable"):
            await acting.acted(f"subscription/{subscription}/{act}")
        await acting.until(await acting.emit(), "delivered", 1, AT_ONCE_SECONDS)

    @pytest.mark.parametrize(("act", "ended"), [("disable", "exhausted"), ("delete", "cancelled")])
    async def test_what_is_left_by_the_act_itself_is_ended_at_once_too(
        self, acting: ActionStarts, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, act: str, ended: str
    ) -> None:
        """The act ends a bounded number in its transaction; the drain of an open breaker ignores a mere wake signal."""
        subscription, _, waiting = await behind_a_breaker(acting, receiver)
        others = [await acting.emit() for _ in range(3)]
        for one in others:
            await acting.until(one, "held", 0)
        for module in ("storage.deliveries.transitions", "activities.drain"):
            monkeypatch.setattr(f"{module}.ENDED_AT_ONCE", 1)
        if act == "disable":
            await acting.acted(f"subscription/{subscription}/disable")
        else:
            await acting.api.client.delete(acting.api.url(f"webhook/subscription/{subscription}"))
        for one in (waiting, *others):
            await acting.until(one, ended, 0, AT_ONCE_SECONDS)

    async def test_a_redelivery_that_succeeds_lets_go_what_waits(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        _, arrived, waiting = await behind_a_breaker(acting, receiver)
        await acting.acted(f"delivery/{arrived}/redeliver")
        await acting.until(waiting, "delivered", 1, AT_ONCE_SECONDS)


class TestSendNow:
    async def test_a_retry_is_not_waited_for(self, acting: ActionStarts, receiver: Receiver) -> None:
        receiver.script(status(503))
        await acting.subscribe(receiver.url("/hook"))
        event = await acting.emit()
        message_id = await acting.until(event, "pending", 1)
        [item] = (await acting.explain(event))["items"]
        assert (item["code"], item["lastStatusCode"]) == ("waiting_for_retry", 503)
        await acting.acted(f"delivery/{message_id}/send-now")
        await acting.until(event, "delivered", 2, AT_ONCE_SECONDS)
        assert "succeeded already" in await acting.refused(f"delivery/{message_id}/send-now")

    async def test_behind_a_breaker_the_receiver_is_asked_at_once(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.script(*[status(503)] * 3)
        subscription = await acting.subscribe(receiver.url("/hook"))
        for _ in range(3):
            await acting.until(await acting.emit(), "pending", 1)
        held = await acting.emit()
        message_id = await acting.until(held, "held", 0)
        [item] = (await acting.explain(held))["items"]
        assert item["code"] == "breaker_open"
        await acting.acted(f"delivery/{message_id}/send-now")
        await acting.until(held, "delivered", 1, AT_ONCE_SECONDS)
        await acting.acted(f"subscription/{subscription}/disable")

    async def test_behind_a_breaker_a_failed_attempt_is_seen_and_its_delivery_waits_on(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        subscription, _, waiting = await behind_a_breaker(acting, receiver)
        receiver.otherwise = status(500)
        [delivery] = await acting.deliveries(waiting)
        for attempts in (1, 2):
            await acting.acted(f"delivery/{delivery['messageId']}/send-now")
            await acting.until(waiting, "held", attempts, AT_ONCE_SECONDS)
            await acting.attempted_by_hand(delivery["messageId"])
        shown = await acting.look(f"delivery/{delivery['messageId']}")
        assert [(one["trigger"], one["statusCode"]) for one in shown["attemptList"]] == [("manual", 500)] * 2
        await acting.acted(f"subscription/{subscription}/disable")

    async def test_what_waits_for_its_retry_is_not_caught_behind_the_breaker(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.script(*[status(503)] * 3)
        await acting.subscribe(receiver.url("/hook"))
        events = []
        for _ in range(3):
            events.append(await acting.emit())
            message_id = await acting.until(events[-1], "pending", 1)
        await acting.acted(f"delivery/{message_id}/send-now")
        await acting.until(events[-1], "delivered", 2, AT_ONCE_SECONDS)

    async def test_not_while_paused_and_not_before_its_predecessor(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.script(status(503))
        subscription = await acting.subscribe(receiver.url("/hook"), ordered=True)
        first, second = await acting.emit(), await acting.emit()
        await acting.until(first, "held", 1)
        successor = await acting.until(second, "held", 0)
        predecessor = (await acting.deliveries(first))[0]["messageId"]
        assert predecessor in await acting.refused(f"delivery/{successor}/send-now")
        [item] = (await acting.explain(second))["items"]
        assert (item["code"], item["behindMessageId"]) == ("behind_ordered", predecessor)
        await acting.acted(f"subscription/{subscription}/pause")
        assert "paused" in await acting.refused(f"delivery/{predecessor}/send-now")
        await acting.acted(f"subscription/{subscription}/resume")
        await acting.acted(f"delivery/{predecessor}/cancel")
        await acting.until(second, "delivered", 1, AT_ONCE_SECONDS)


class TestCancel:
    async def test_it_ends_the_delivery_and_the_activity_that_waits(
        self, acting: ActionStarts, receiver: Receiver
    ) -> None:
        receiver.script(status(503))
        await acting.subscribe(receiver.url("/hook"))
        event = await acting.emit()
        message_id = await acting.until(event, "pending", 1)
        client, retry_id = acting.running.client, f"{message_id}/1"
        await eventually(lambda: activity_is_there(client, retry_id), 20, "the activity of the retry")
        await acting.acted(f"delivery/{message_id}/cancel")
        await acting.until(event, "cancelled", 1, AT_ONCE_SECONDS)
        described = await client.get_activity_handle(retry_id).describe()
        assert described.status is ActivityExecutionStatus.TERMINATED
        assert await acting.refused(f"delivery/{message_id}/cancel") == "The delivery is cancelled."
        [item] = (await acting.explain(event))["items"]
        assert item["code"] == "cancelled_by_person"
        await acting.acted(f"delivery/{message_id}/redeliver")
        await acting.until(event, "delivered", 2)
        assert await acting.refused(f"delivery/{message_id}/cancel") == "The delivery has succeeded already."


async def test_a_page_links_to_the_run_of_the_activity_that_waits(
    acting: ActionStarts, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.temporal_links.KNOWN_SECONDS", 10.0)
    receiver.script(status(503))
    await acting.subscribe(receiver.url("/hook"))
    message_id = await acting.until(await acting.emit(), "pending", 1)
    client, retry_id = acting.running.client, f"{message_id}/1"
    await eventually(lambda: activity_is_there(client, retry_id), 20, "the activity of the retry")
    settings = acting.api.resources.settings.model_copy(update={"temporal_ui_url": "http://ui.test"})
    resources = replace(acting.api.resources, settings=settings)
    run_id = (await client.get_activity_handle(retry_id).describe()).activity_run_id
    page = f"http://ui.test/namespaces/default/activities/{quote(retry_id, safe='')}/{run_id}/details"
    assert await existing_url(resources, workflow_id="event/x", retry_id=retry_id) == page
    unknown = await existing_url(resources, workflow_id="event/x", retry_id=f"{message_id}/9")
    assert unknown is not None
    assert "/activities?query=" in unknown, "a search that finds it as long as Temporal keeps it"


async def test_a_held_delivery_links_to_its_drain_only_once_there_is_one(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.temporal_links.KNOWN_SECONDS", 10.0)
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    async with running_api(database_url, temporal_ui_url="http://ui.test") as api:
        message_id = await failed_delivery(api)
        [[drain_id]] = await api.execute(
            "UPDATE delivery SET status = 'held', reason = 'overload', ended_at = NULL, "
            "workflow_id = 'subscription/' || subscription_id RETURNING workflow_id"
        )

        async def links() -> list[str | None]:
            shown = (await api.get(f"webhook/delivery/{message_id}")).json()
            [item] = (await api.get(f"webhook/explain?eventId={shown['eventId']}")).json()["items"]
            return [shown["temporalUrl"], item["temporalUrl"]]

        assert await links() == [None, None]
        drain = await temporal.client.start_workflow("drain-subscription", id=drain_id, task_queue="nobody")
        assert await links() == [f"http://ui.test/namespaces/default/workflows/{quote(drain_id, safe='')}"] * 2
        await drain.terminate()


async def test_while_temporal_is_away_nothing_is_half_done(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:9")
    async with running_api(database_url) as api:
        body = {"webhookSubscription": {"eventName": EVENT, "url": "http://127.0.0.1:9/"}}
        created = await api.post("webhook/subscription", body)
        path = f"webhook/subscription/{created.json()['webhookSubscriptionId']}"
        assert (await api.post(f"{path}/send-test", "")).status_code == 503
        for act in ("recover", "backfill"):
            assert (await api.post(f"{path}/{act}", {act: {"since": SINCE}})).status_code == 503
        assert await api.execute("SELECT 1 FROM event UNION ALL SELECT 1 FROM delivery") == []
        assert [row[0] for row in await api.execute("SELECT status FROM bulk_action")] == ["cancelled"] * 2
        assert (await api.post(f"{path}/pause", "")).json()["status"] == "paused"
        assert (await api.post(f"{path}/resume", "")).json()["status"] == "active"


async def failed_delivery(api: RunningApi) -> UUID:
    """A delivery that is exhausted, made without a worker; its id."""
    body = {"webhookSubscription": {"eventName": EVENT, "url": "http://127.0.0.1:9/"}}
    created = await api.post("webhook/subscription", body)
    event_id = (await api.emit(EVENT)).json()["eventId"]
    subscription_id = UUID(created.json()["webhookSubscriptionId"])
    await fail_many(Ground(api.database), subscription_id, UUID(event_id), 1)
    [[message_id]] = await api.execute("SELECT message_id FROM delivery")
    found: UUID = message_id
    return found


async def test_a_delivery_is_cancelled_while_temporal_is_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:9")
    async with running_api(database_url) as api:
        message_id = await failed_delivery(api)
        retry_id = f"{message_id}/1"
        waits = "UPDATE delivery SET status = 'pending', ended_at = NULL, retry_id = :retry_id"
        await api.execute(waits, retry_id=retry_id)
        assert (await api.post(f"webhook/delivery/{message_id}/cancel", "")).status_code == 202
        assert [row.status for row in await api.execute("SELECT status FROM delivery")] == ["cancelled"]
    assert f"activity {retry_id} of a cancelled delivery not terminated (Temporal unavailable)" in caplog.text


@pytest.mark.parametrize(("action", "before"), [("redeliver", "exhausted"), ("send-now", "pending")])
async def test_an_attempt_that_temporal_does_not_start_is_refused_and_audited_and_holds_no_transaction_open(
    database_url: str,
    temporal: WorkflowEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    before: str,
) -> None:
    monkeypatch.setattr("api.refusals.TEMPORAL_SECONDS", 4.0)
    host, port = temporal.client.service_client.config.target_host.split(":")
    async with tcp_proxy(host, int(port)) as proxy:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{proxy.port}")
        async with running_api(database_url) as api:
            message_id = await failed_delivery(api)
            await api.execute("UPDATE delivery SET status = :status, ended_at = NULL", status=before)
            proxy.freeze()
            asked = asyncio.create_task(api.post(f"webhook/delivery/{message_id}/{action}", ""))

            async def audited(count: int) -> bool:
                query = "SELECT count(*) = :count FROM audit WHERE object_id = :id"
                return bool((await api.execute(query, count=count, id=str(message_id)))[0][0])

            await eventually(lambda: audited(1), 30, "the act is noted before Temporal is asked")
            assert not asked.done()
            open_ones = await api.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
                "AND state LIKE 'idle in transaction%'"
            )
            assert open_ones == []
            assert (await asked).status_code == 503
            assert await audited(2)
            rows = await api.execute(
                "SELECT action, changes FROM audit WHERE object_id = :id ORDER BY id", id=str(message_id)
            )
            outcome = {"outcome": "start not confirmed: Temporal cannot be reached at the moment; try again."}
            assert [tuple(row) for row in rows] == [(action, {}), (action, outcome)]
            assert [row.status for row in await api.execute("SELECT status FROM delivery")] == [before]


@pytest.mark.parametrize(
    ("action", "before", "status_code"),
    [
        ("delivery/{message}/redeliver", "exhausted", 503),
        ("delivery/{message}/send-now", "pending", 503),
        ("delivery/{message}/cancel", "held", 202),
        ("subscription/{subscription}/disable", "held", 200),
        ("subscription/{subscription}/send-test", "held", 503),
    ],
)
async def test_a_call_that_temporal_refuses_is_told_and_undoes_nothing_that_is_committed(
    database_url: str,
    temporal: WorkflowEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    action: str,
    before: str,
    status_code: int,
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "of-nobody")
    async with running_api(database_url) as api:
        message_id = await failed_delivery(api)
        await api.execute("UPDATE delivery SET status = :status, ended_at = NULL", status=before)
        await api.execute("UPDATE subscription SET ordered = :held", held=before == "held")
        [[subscription_id]] = await api.execute("SELECT id FROM subscription")
        answer = await api.post(f"webhook/{action.format(message=message_id, subscription=subscription_id)}", "")
        assert answer.status_code == status_code, answer.text
        assert "Temporal refuses a call of the API with NOT_FOUND: Namespace of-nobody is not found" in caplog.text
        if status_code == 503:
            assert "Temporal refuses the call (NOT_FOUND)" in answer.json()["message"]
        if "delivery" in action and status_code == 503:
            [_, noted] = await api.execute(
                "SELECT changes FROM audit WHERE object_id = :id ORDER BY id", id=str(message_id)
            )
            assert noted.changes == {"outcome": f"start not confirmed: {answer.json()['message']}"}
