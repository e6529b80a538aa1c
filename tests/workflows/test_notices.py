"""Nobody is disabled silently: a store's operator hears of it, signed, collapsed, and never at a delivery's cost."""

import asyncio
import json
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook
from temporalio.testing import WorkflowEnvironment

import activities.notices
from activities.notices import NoticeWatch
from domain.delivery.identity import notice_workflow_id
from storage.access.stores import rotate_operator_key, set_operator_url
from storage.sealing import Sealer
from tests.deadlines import eventually
from tests.pipeline import ENCRYPTION_KEY, STORE, Pipeline, pipeline
from tests.receiver import Received, Receiver, status, when
from tests.smtp import MailServer

FAST: dict[str, Any] = {
    "breaker_failures": 3,
    "breaker_first_probe_seconds": 0.2,
    "breaker_longest_probe_seconds": 0.4,
}
SEALER = Sealer([ENCRYPTION_KEY])
SECRET_TEXT = b"a word of the receiver's that is nobody else's business"


async def operate(running: Pipeline, url: str) -> str:
    """Give the store an operator; its key."""
    async with running.database.transaction() as connection:
        secret = await set_operator_url(connection, STORE, url, SEALER)
    assert secret is not None
    return secret


async def send_due(running: Pipeline, *, mail: bool = False) -> None:
    """Let the minutes of all notices be over, and have them sent as the worker does."""
    await running.execute(
        "UPDATE notice SET mail_due_at = CASE WHEN mail_due_at IS NOT NULL THEN clock_timestamp() END, "
        "due_at = CASE WHEN due_at IS NOT NULL THEN clock_timestamp() END"
    )
    await NoticeWatch(running.database, running.client, running.settings.task_queue, mail=mail).look()


async def sending_is_over(running: Pipeline) -> dict[str, Any]:
    """The result of the store's last workflow of notices, which every test waits for: all use one Temporal server."""
    async with asyncio.timeout(20):
        result: dict[str, Any] = await running.client.get_workflow_handle(notice_workflow_id(STORE)).result()
    return result


def verified(request: Received, secret: str) -> dict[str, Any]:
    """The body of a notice whose signature is right."""
    body: dict[str, Any] = Webhook(secret).verify(request.body, request.header_dict())
    return body


async def until_noted(running: Pipeline, *kinds: str) -> None:
    async def noted() -> bool:
        rows = await running.execute("SELECT DISTINCT kind FROM notice")
        return set(kinds) <= {row.kind for row in rows}

    await eventually(noted, 20, f"notices of {kinds}")


async def fail_for(running: Pipeline, subscription_id: UUID, days: float) -> None:
    """As if the receiver had begun to fail so long ago."""
    await running.execute(
        "UPDATE subscription_health SET failing_since = clock_timestamp() - make_interval(secs => 86400 * :days) "
        "WHERE subscription_id = :id",
        id=subscription_id,
        days=days,
    )
    await running.execute("UPDATE subscription SET status_since = now() - interval '1 year'")


async def test_an_operator_hears_of_a_failing_receiver_and_of_its_recovery(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with (
        Receiver() as receiver,
        Receiver() as operator,
        pipeline(database_url, temporal.client, **FAST) as running,
    ):
        secret = await operate(running, operator.url("/notices?token=1"))
        receiver.otherwise = status(500, body=SECRET_TEXT)
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook?token=2"))
        await running.emit("CustomerUpdated", "{}", count=6)
        await until_noted(running, "subscription.failing")
        receiver.otherwise = status(200)
        await until_noted(running, "subscription.recovered")
        await send_due(running)
        first, second = await operator.wait_for(2)
        failing = verified(first, secret)
        assert (failing["type"], verified(second, secret)["type"]) == ("subscription.failing", "subscription.recovered")
        assert failing["data"] == {
            "storeCode": STORE,
            "webhookSubscriptionId": str(subscription_id),
            "eventName": "CustomerUpdated",
            "target": receiver.url("/hook").removeprefix("http://"),
            "reasons": ["http_5xx"],
            "count": 1,
            "lastAt": failing["timestamp"],
        }
        assert (first.target, first.header("content-type")) == ("/notices?token=1", "application/json")
        assert not [name for name, _ in first.headers if name.lower().startswith("x-webhook-")]
        assert SECRET_TEXT not in first.body + second.body
        assert first.header("webhook-id") != second.header("webhook-id")
        assert (await sending_is_over(running))["sent"] == 2
        await send_due(running)
        assert len(operator.requests) == 2, "sent once"


async def test_a_410_disables_and_is_told(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, Receiver() as operator, pipeline(database_url, temporal.client) as running:
        secret = await operate(running, operator.url("/notices"))
        receiver.script(status(503), status(503), status(410))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[60])
        await running.emit("CustomerUpdated", "{}", count=2)
        await running.until_statuses({"pending": 2})
        await running.emit("CustomerUpdated", "{}")
        await running.until_statuses({"exhausted": 3})
        await send_due(running)
        await sending_is_over(running)
        told = {body["type"]: body["data"] for body in (verified(one, secret) for one in operator.requests)}
        assert told["subscription.disabled"]["reasons"] == ["http_gone"]
        assert told["delivery.exhausted"]["reasons"] == ["http_gone", "subscription_disabled"]
        assert told["delivery.exhausted"]["count"] == 3
        [line] = await running.execute("SELECT actor, action, changes FROM audit")
        assert (line.actor, line.action, line.changes["reason"]) == ("system", "disable", "http_gone")


async def test_a_receiver_that_failed_for_five_days_is_disabled_and_that_is_told(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    settings = {**FAST, "disable_after_failing_days": 5, "disable_after_deliveries": 4}
    async with (
        Receiver() as receiver,
        Receiver() as operator,
        pipeline(database_url, temporal.client, **settings) as running,
    ):
        secret = await operate(running, operator.url("/notices"))
        receiver.otherwise = status(500)
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[3600] * 50)
        await running.emit("CustomerUpdated", "{}", count=3)
        await until_noted(running, "subscription.failing")
        await running.emit("CustomerUpdated", "{}")
        before = len(receiver.requests)
        await receiver.wait_for(before + 2)
        assert await running.scalar("SELECT status FROM subscription") == "active", "not for five days yet"
        await fail_for(running, subscription_id, 5.1)
        await running.until_statuses({"exhausted": 4})
        [row] = await running.execute("SELECT status, status_reason FROM subscription")
        assert (row.status, row.status_reason) == ("disabled", "failing")
        [line] = await running.execute("SELECT actor, changes FROM audit")
        assert (line.actor, line.changes["reason"]) == ("system", "failing")
        await send_due(running)
        await sending_is_over(running)
        told = {body["type"]: body["data"] for body in (verified(one, secret) for one in operator.requests)}
        assert told["subscription.disabled"]["reasons"] == ["failing"]
        assert told["delivery.exhausted"]["count"] == 4


async def test_a_receiver_with_few_deliveries_is_not_given_up(database_url: str, temporal: WorkflowEnvironment) -> None:
    settings = {**FAST, "disable_after_deliveries": 5}
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **settings) as running:
        receiver.otherwise = status(500)
        subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[3600] * 50)
        await running.emit("CustomerUpdated", "{}", count=3)
        await until_noted(running, "subscription.failing")
        await running.emit("CustomerUpdated", "{}")
        await fail_for(running, subscription_id, 50)
        await receiver.wait_for(len(receiver.requests) + 3)
        assert await running.scalar("SELECT status FROM subscription") == "active"


async def test_a_notice_that_failed_is_sent_again_under_the_same_id_until_it_is_given_up(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    settings = {**FAST, "notice_retry_schedule_seconds": (3600, 3600)}
    async with (
        Receiver() as receiver,
        Receiver() as operator,
        pipeline(database_url, temporal.client, **settings) as running,
    ):
        secret = await operate(running, operator.url("/notices"))
        operator.otherwise = status(503, body=SECRET_TEXT)
        receiver.otherwise = status(500)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[])
        await running.emit("CustomerUpdated", "{}")
        await until_noted(running, "delivery.exhausted")
        for attempt in (1, 2, 3):
            await send_due(running)
            await operator.wait_for(attempt)
            await sending_is_over(running)
        await send_due(running)
        [row] = await running.execute("SELECT * FROM notice")
        assert (row.attempts, row.due_at, row.sent_at, row.last_failure) == (3, None, None, "http_5xx")
        assert [request.header("webhook-id") for request in operator.requests] == [str(row.id)] * 3
        bodies = [verified(request, secret) for request in operator.requests]
        assert bodies[0] == bodies[1] == bodies[2]
        assert SECRET_TEXT.decode() not in json.dumps([str(value) for value in row])


async def test_an_outage_of_the_egress_proxy_uses_up_no_retry_schedule_of_a_notice(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    settings: dict[str, Any] = {
        "egress_proxy_url": SecretStr("http://127.0.0.1:1"),
        "egress_no_proxy": (ip_network("127.0.0.1/32"),),
        "notice_retry_schedule_seconds": (),
    }
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **settings) as running:
        await operate(running, "http://127.0.0.2:1/notices")
        receiver.otherwise = status(500)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[])
        await running.emit("CustomerUpdated", "{}")
        await until_noted(running, "delivery.exhausted")
        await send_due(running)
        assert (await sending_is_over(running))["failed"] == 1
        [row] = await running.execute("SELECT attempts, due_at > clock_timestamp() AS again, last_failure FROM notice")
        assert (row.attempts, row.again, row.last_failure) == (0, True, "proxy_unavailable")


async def test_a_notice_goes_nowhere_deliveries_may_not_go(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with (
        Receiver() as receiver,
        Receiver() as operator,
        pipeline(database_url, temporal.client, **FAST) as running,
    ):
        await operate(running, f"http://10.255.255.1:{operator.port}/notices")  # stored when the rules were others
        receiver.otherwise = status(500)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[])
        await running.emit("CustomerUpdated", "{}")
        await until_noted(running, "delivery.exhausted")
        await send_due(running)
        await sending_is_over(running)
        [row] = await running.execute("SELECT due_at, last_failure FROM notice")
        assert (row.due_at, row.last_failure) == (None, "blocked")


async def test_after_a_rotation_both_keys_verify(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, Receiver() as operator, pipeline(database_url, temporal.client) as running:
        old = await operate(running, operator.url("/notices"))
        async with running.database.transaction() as connection:
            new = await rotate_operator_key(connection, STORE, SEALER)
        receiver.otherwise = status(500)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[])
        await running.emit("CustomerUpdated", "{}")
        await until_noted(running, "delivery.exhausted")
        await send_due(running)
        await sending_is_over(running)
        [request] = operator.requests
        assert new is not None
        assert verified(request, new) == verified(request, old)


async def test_an_operator_that_hangs_holds_up_no_delivery(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, Receiver() as operator, pipeline(database_url, temporal.client) as running:
        await operate(running, operator.url("/notices"))
        gate = asyncio.Event()
        operator.otherwise = when(gate, status(500))
        receiver.script(status(500))
        await running.subscribe("CustomerUpdated", receiver.url("/hook"), retry_schedule=[])
        await running.emit("CustomerUpdated", "{}")
        await until_noted(running, "delivery.exhausted")
        await send_due(running)
        await operator.wait_for(1)
        await running.emit("CustomerUpdated", "{}", count=50)
        await running.until_statuses({"delivered": 50, "exhausted": 1})
        assert await running.scalar("SELECT count(*) FROM notice WHERE sent_at IS NULL AND attempts = 0") == 1
        gate.set()
        assert (await sending_is_over(running))["failed"] == 1


async def test_every_worker_looks_for_what_is_due(
    database_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities.notices, "WATCH_SECONDS", 0.05)
    async with Receiver() as receiver, Receiver() as operator, pipeline(database_url, temporal.client) as running:
        await operate(running, operator.url("/notices"))
        receiver.otherwise = status(410)
        await running.subscribe("CustomerUpdated", receiver.url("/hook"))
        certified = await running.subscribe("CustomerRegistered", receiver.url("/certified"))
        await running.execute(
            "UPDATE subscription SET certificate_expires_at = clock_timestamp() + interval '3 days' WHERE id = :id",
            id=certified,
        )
        watches = [
            asyncio.create_task(
                NoticeWatch(running.database, running.client, running.settings.task_queue, mail=False).run()
            )
            for _ in range(2)
        ]
        await running.emit("CustomerUpdated", "{}")
        await until_noted(running, "subscription.disabled", "delivery.exhausted", "subscription.certificate_expiring")
        assert operator.requests == [], "its minute is not over"
        await running.execute("UPDATE notice SET due_at = clock_timestamp()")
        await operator.wait_for(3)
        await sending_is_over(running)

        async def all_sent() -> bool:
            return bool(await running.scalar("SELECT count(*) FROM notice WHERE sent_at IS NOT NULL") == 3)

        await eventually(all_sent, 20, "all notices sent")
        assert [watch.done() for watch in watches] == [False, False]
        for watch in watches:
            watch.cancel()
        await asyncio.wait(watches)
        await sending_is_over(running)
        assert len(operator.requests) == 3


async def test_a_mail_tells_the_same_where_there_is_a_mail_server(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with MailServer() as server, Receiver() as receiver:
        settings: dict[str, Any] = {
            "smtp_host": "127.0.0.1",
            "smtp_port": server.port,
            "smtp_security": "none",
            "smtp_sender": "webhooks@example.com",
            "smtp_recipients": "one@example.com, two@example.com",
            "notice_retry_schedule_seconds": (3600,),
        }
        async with pipeline(database_url, temporal.client, **settings) as running:
            server.refuse_data = True
            receiver.otherwise = status(410, body=SECRET_TEXT)
            subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook?token=2"))
            await running.emit("CustomerUpdated", "{}")
            await until_noted(running, "subscription.disabled", "delivery.exhausted")
            await send_due(running, mail=True)
            assert (await sending_is_over(running))["mailed"] == 0
            server.refuse_data = False
            await send_due(running, mail=True)
            assert (await sending_is_over(running))["mailed"] == 2
            await send_due(running, mail=True)
            [mail] = server.mails
            assert (mail.sender, mail.recipients) == ("webhooks@example.com", ["one@example.com", "two@example.com"])
            assert mail.message["Subject"] == f"[webhooks {STORE}] 2 notices"
            text = mail.message.get_content()
            assert "webhook disabled (subscription.disabled), gone (http_gone)" in text
            assert str(subscription_id) in text
            assert "token" not in text
            rows = await running.execute("SELECT mail_attempts, mailed_at, mail_due_at, due_at FROM notice")
            assert {(row.mail_attempts, row.mailed_at is not None, row.mail_due_at, row.due_at) for row in rows} == {
                (1, True, None, None)
            }
