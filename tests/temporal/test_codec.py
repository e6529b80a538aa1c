"""With TEMPORAL_PAYLOAD_KEYS, Temporal holds ids and search attributes in clear, and nothing else."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import event_workflow_id, manual_attempt_id
from temporal.codec import EncryptingCodec, PayloadConverter, PayloadKeyError, data_converter
from temporal.visibility import RECEIVER_HOSTS
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline, settings_for
from tests.receiver import Receiver, status
from tests.temporal_server import everything_of_activity

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
PAYLOAD = Payload(metadata={"encoding": b"json/plain"}, data=b'"said"')


async def test_what_is_encrypted_tells_nothing_and_comes_back_whole() -> None:
    codec = EncryptingCodec([NEW])
    [encrypted] = await codec.encode([PAYLOAD])
    assert b"said" not in encrypted.SerializeToString()
    assert b"json" not in encrypted.SerializeToString()
    assert await codec.decode([encrypted]) == [PAYLOAD]


def test_what_is_known_of_a_type_is_shared_by_the_converters_of_all_workflows() -> None:
    assert data_converter(()).payload_converter_class is PayloadConverter
    one, other = PayloadConverter(), PayloadConverter()
    assert one.converters[b"json/plain"] is other.converters[b"json/plain"]


@pytest.mark.parametrize(
    ("category", "traced"), [(ApplicationErrorCategory.BENIGN, False), (ApplicationErrorCategory.UNSPECIFIED, True)]
)
@pytest.mark.parametrize("keys", [(), (NEW,)], ids=["in clear", "encrypted"])
async def test_only_an_unexpected_failure_has_its_stack_trace(
    keys: tuple[str, ...], category: ApplicationErrorCategory, traced: bool
) -> None:
    converter, failure = data_converter(keys), Failure()
    try:
        raise ApplicationError("attempt failed", category=category)
    except ApplicationError as error:
        await converter.encode_failure(error, failure)
    read = await converter.decode_failure(failure)
    assert isinstance(read, ApplicationError)
    assert (read.message, "raise ApplicationError" in read.failure.stack_trace) == ("attempt failed", traced)


async def test_what_was_written_before_encryption_is_still_read() -> None:
    assert await EncryptingCodec([NEW]).decode([PAYLOAD]) == [PAYLOAD]


async def test_in_a_rotation_both_keys_decrypt_and_the_first_encrypts() -> None:
    [by_old] = await EncryptingCodec([OLD]).encode([PAYLOAD])
    rotating = EncryptingCodec([NEW, OLD])
    assert await rotating.decode([by_old]) == [PAYLOAD]
    [by_new] = await rotating.encode([PAYLOAD])
    assert await EncryptingCodec([NEW]).decode([by_new]) == [PAYLOAD]


async def test_encryption_is_switched_off_while_what_was_encrypted_is_still_read() -> None:
    [encrypted] = await EncryptingCodec([OLD]).encode([PAYLOAD])
    off = EncryptingCodec(["none", OLD])
    assert await off.encode([PAYLOAD]) == [PAYLOAD]
    assert await off.decode([encrypted]) == [PAYLOAD]
    assert [EncryptingCodec(keys).encrypts for keys in (["none", OLD], [NEW, OLD])] == [False, True]


async def test_a_missing_key_is_named_as_the_cause() -> None:
    [encrypted] = await EncryptingCodec([OLD]).encode([PAYLOAD])
    with pytest.raises(PayloadKeyError, match="TEMPORAL_PAYLOAD_KEYS"):
        await EncryptingCodec([NEW]).decode([encrypted])


@pytest.mark.parametrize(
    "keys",
    [["none"], [NEW, "none"], ["short"], [NEW, ""]],
    ids=["none alone", "none behind a key", "too short", "empty behind a key"],
)
def test_a_key_that_is_none_is_refused_by_codec_and_settings_alike(keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"key|base64"):
        EncryptingCodec(keys)
    with pytest.raises(ValidationError):
        settings_for("postgresql://db.example.com/x", temporal_payload_keys=tuple(map(SecretStr, keys)))


def with_keys(client: Client, keys: Sequence[str]) -> Client:
    """The same connection, reading and writing with these keys."""
    return Client(**{**client.config(), "data_converter": data_converter(keys)})  # type: ignore[arg-type]


async def everything_of(client: Client, workflow_id: str) -> bytes:
    """All that Temporal holds of a workflow, as it holds it."""
    handle: WorkflowHandle[object, object] = client.get_workflow_handle(workflow_id)
    parts = [event.SerializeToString() async for event in handle.fetch_history_events()]
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace)
    request.execution.workflow_id = workflow_id
    parts.append((await client.workflow_service.describe_workflow_execution(request)).SerializeToString())
    return b"".join(parts)


async def retried_once(running: Pipeline, receiver: Receiver) -> tuple[UUID, UUID]:
    """(subscription, event) whose first attempt failed and whose second came through."""
    receiver.script(status(503), path="/hook")
    subscription_id = await running.subscribe("CustomerUpdated", receiver.url("/hook"))
    [event_id] = await running.emit("CustomerUpdated", "{}")
    await running.until_statuses({"delivered": 1})
    return subscription_id, event_id


async def test_a_delivery_is_retried_kept_and_acted_on_with_everything_encrypted(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    client = with_keys(temporal.client, [NEW])
    async with Receiver() as receiver, pipeline(database_url, client, retry_schedule_seconds=(1, 1)) as running:
        subscription_id, event_id = await retried_once(running, receiver)
        [delivery] = await running.deliveries()
        await running.attempt_by_hand(delivery.message_id, "redeliver")
        workflow_id = event_workflow_id(STORE, event_id)
        await client.get_workflow_handle(workflow_id).result()
        held = await everything_of(client, workflow_id)
        for activity_id in (delivery.retry_id, manual_attempt_id(delivery.message_id)):
            of_activity = await everything_of_activity(client, activity_id)
            assert b"binary/encrypted" in of_activity
            held += of_activity.replace(activity_id.encode(), b"")  # Temporal finds it by that
    for reference in (
        "/hook",
        "127.0.0.1",
        RECEIVER_HOSTS.name,
        str(subscription_id),
        str(delivery.message_id),
        "http_5xx",
    ):
        assert reference.encode() not in held, reference
    assert str(event_id).encode() in held  # the workflow's id: Temporal finds it by that
    assert b"binary/encrypted" in held


async def test_workflows_begun_in_clear_go_on_when_encryption_is_switched_on(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver:
        receiver.script(status(503), path="/hook")
        async with pipeline(database_url, temporal.client, retry_schedule_seconds=(2, 2)) as running:
            await running.subscribe("CustomerUpdated", receiver.url("/hook"))
            [event_id] = await running.emit("CustomerUpdated", "{}")
            await eventually(lambda: _failed_once(running), 20, "the first attempt has failed")
            settings = running.settings
        client = with_keys(temporal.client, [NEW])
        async with pipeline(
            database_url, client, task_queue=settings.task_queue, encryption_keys=settings.encryption_keys
        ) as running:
            await running.until_statuses({"delivered": 1})
            await client.get_workflow_handle(event_workflow_id(STORE, event_id)).result()


async def _failed_once(running: Pipeline) -> bool:
    [delivery] = await running.deliveries() or [None]
    return delivery is not None and delivery.failures == 1 and delivery.next_attempt_at is not None
