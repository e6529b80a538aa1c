"""Temporal and the logs hold references: no data, header value, key, query string or word of a receiver's."""

import logging
from uuid import UUID, uuid4

import pytest
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import drain_workflow_id, manual_attempt_id
from storage.sealing import Sealer
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Receiver, Reply, hang, reset_mid_response, status
from tests.temporal_server import everything_of_activity


def secret(what: str) -> str:
    return f"{what}-{uuid4().hex}"


EMAIL, TOKEN, HEADER, ANSWER, PLACE, CODE = map(secret, ("mail", "query", "header", "answer", "location", "code"))
KEY = "whsec_" + "a2V5LW9mLXRoZS1zdWJzY3JpcHRpb24tMzItYnl0ZXM="
SECRETS = (EMAIL, TOKEN, HEADER, ANSWER, PLACE, CODE, KEY, KEY.removeprefix("whsec_"))
DATA = f'{{"customer":{{"email":"{EMAIL}@example.com"}}}}'


async def subscribe(running: Pipeline, receiver: Receiver, name: str, path: str, **columns: object) -> UUID:
    """A subscription with something to hide in each of its fields."""
    sealer = Sealer(running.settings.plain_encryption_keys)
    return await running.subscribe(
        name,
        receiver.url(f"{path}?token={TOKEN}"),
        sealed_headers=sealer.seal(f'[["X-Own","{HEADER}"]]'),
        hmac_enabled=True,
        sealed_secret=sealer.seal(KEY),
        signature_version=1,
        **columns,
    )


async def everything_of(client: Client, workflow_id: str) -> bytes:
    """All that Temporal knows of a workflow: history, description with pending activities, what its UI shows."""
    handle: WorkflowHandle[object, object] = client.get_workflow_handle(workflow_id)
    parts = [event.SerializeToString() async for event in handle.fetch_history_events()]
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace)
    request.execution.workflow_id = workflow_id
    described = await client.workflow_service.describe_workflow_execution(request)
    parts.append(described.SerializeToString())
    parts.append(str(await handle.query("__temporal_workflow_metadata")).encode())
    return b"".join(parts)


async def misbehave(running: Pipeline, receiver: Receiver) -> None:
    """Every way in which a receiver answers with something to hide, and some of ours to fail."""

    def telling(code: int) -> Reply:
        return status(code, body=ANSWER.encode(), headers=(("Location", f"http://{PLACE}.example.com/"),))

    for path, replies in {
        "/failing": [telling(503), telling(302), telling(200)],
        "/gone": [telling(410)],
        "/broken": [reset_mid_response(), telling(418)],
        "/hanging": [hang()],
    }.items():
        receiver.script(*replies, path=path)
        await subscribe(running, receiver, "CustomerUpdated", path)
    lost = Sealer(["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]).seal(f'[["X","{HEADER}"]]')
    await running.subscribe("CustomerUpdated", receiver.url(f"/sealed?token={TOKEN}"), sealed_headers=lost)
    await subscribe(running, receiver, "CustomerUpdated", "/kept", max_concurrency=1)
    await running.emit("CustomerUpdated", DATA)

    async def settled() -> bool:
        pending = await running.execute("SELECT url FROM delivery WHERE status IN ('pending', 'held')")
        return len(await running.deliveries()) == 6 and all("/sealed" in row.url for row in pending)

    await eventually(settled, 30, "all but the delivery with a lost key has ended")


async def test_nothing_secret_is_in_any_history_or_log(
    database_url: str, temporal: WorkflowEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for noisy in ("asyncio", "sqlalchemy"):
        caplog.set_level(logging.WARNING, noisy)
    async with (
        Receiver() as receiver,
        pipeline(
            database_url, temporal.client, retry_schedule_seconds=(1,) * 10, request_timeout_seconds=0.5
        ) as running,
    ):
        await misbehave(running, receiver)
        await subscribe(running, receiver, "CustomerRequestedPasswordReset", "/batch")
        receiver.script(*[status(500, body=ANSWER.encode())] * 3, path="/batch")
        sealer = Sealer(running.settings.plain_encryption_keys)
        whole = sealer.seal(f'{{"code":"{CODE}"}}')
        await running.emit("CustomerRequestedPasswordReset", '{"code":"•••"}', 30, sealed_data=whole)

        async def delivered() -> bool:
            statement = "SELECT count(*) = 30 FROM delivery WHERE url LIKE '%/batch%' AND status = 'delivered'"
            return bool(await running.scalar(statement))

        await eventually(delivered, 30, "the batch is delivered")
        [first, *_] = [row for row in await running.deliveries() if "/failing" in row.url]
        [sealed] = [row for row in await running.deliveries() if "/sealed" in row.url]
        await running.attempt_by_hand(sealed.message_id, "send-now")  # a failure of ours to show
        await running.attempt_by_hand(first.message_id, "redeliver")

        rows = await running.execute("SELECT workflow_id FROM event UNION SELECT workflow_id FROM delivery")
        kept = await running.scalar("SELECT id FROM subscription WHERE url LIKE '%/kept%'")
        ids = {row.workflow_id for row in rows if row.workflow_id} | {drain_workflow_id(kept)}
        retried = await running.execute("SELECT retry_id FROM delivery WHERE retry_id IS NOT NULL")
        activities = [row.retry_id for row in retried]
        activities += [manual_attempt_id(row.message_id) for row in (sealed, first)]
        assert len(activities) >= 6
        known = b"".join(
            [
                *[await everything_of(temporal.client, workflow_id) for workflow_id in ids],
                *[await everything_of_activity(temporal.client, activity_id) for activity_id in activities],
            ]
        )

        excerpts = await running.execute("SELECT response_excerpt FROM attempt WHERE response_excerpt IS NOT NULL")

    for part in SECRETS:
        assert part.encode() not in known, f"{part} is in a history"
        assert part not in caplog.text, f"{part} is in the log"
    # What is searched is what there is: references are found, and the secrets were really on their way.
    for part in ("/failing", "/batch", "/kept", STORE, "CustomerRequestedPasswordReset", "internal"):
        assert part.encode() in known, part
    wire = b"".join(request.head + request.body for request in receiver.requests)
    for part in (EMAIL, TOKEN, HEADER, CODE):
        assert part.encode() in wire
    assert any(ANSWER in row.response_excerpt for row in excerpts)
