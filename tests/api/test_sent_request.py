"""The request that is shown is the one that was sent, and its `curl` is one that a shell understands."""

import json
import subprocess
from uuid import UUID, uuid4

from api.deliveries.service import ARGUMENT_BYTES, SentBody, SentRequest, sent_body, sent_request
from storage.deliveries.log import attempts_of, find_delivery
from storage.events.intake import find_event
from storage.subscriptions.queries import find_subscription
from tests.api.acting import ActionStarts
from tests.api.installation import header
from tests.receiver import Receiver

SECRET = {"x-webhook-signature", "webhook-signature", "authorization", "x-own"}


async def shown(acting: ActionStarts, message_id: UUID) -> SentRequest:
    resources, store = acting.api.resources, acting.api.store
    async with resources.database.transaction() as connection:
        row = await find_delivery(connection, store, message_id)
        assert row is not None
        [attempt] = await attempts_of(connection, message_id)
        event = await find_event(connection, store, row.event_id)
        subscription = await find_subscription(connection, store, row.subscription_id)
    body = sent_body(event, row, attempt, resources.sealer.open)
    return sent_request(row, attempt, subscription, body, resources.settings.user_agent, resources.sealer)


async def test_headers_and_body_are_those_that_the_receiver_got(acting: ActionStarts, receiver: Receiver) -> None:
    headers = [header("Authorization", "very-secret"), header("X-Own", "1")]
    await acting.subscribe(receiver.url("/hook?x=1"), hmacEnabled=True, headers=headers)
    request = await shown(acting, UUID(await acting.until(await acting.emit(), "delivered", 1)))
    [got] = receiver.requests
    assert request.body.text == got.body.decode()
    assert request.method == got.method
    assert [name for name, _ in request.headers] == [name for name, _ in got.headers]
    for (_, shown_value), (name, value) in zip(request.headers, got.headers, strict=True):
        assert shown_value == (None if name.lower() in SECRET else value), name


async def test_the_header_of_an_authentication_is_among_them(acting: ActionStarts, receiver: Receiver) -> None:
    await acting.subscribe(receiver.url("/hook"), authentication={"type": "bearer", "token": "s3cret"})
    request = await shown(acting, UUID(await acting.until(await acting.emit(), "delivered", 1)))
    [got] = receiver.requests
    assert [name for name, _ in request.headers] == [name for name, _ in got.headers]
    assert ("Authorization", None) in request.headers


async def test_a_test_is_marked_and_an_own_user_agent_is_no_second_one(
    acting: ActionStarts, receiver: Receiver
) -> None:
    subscription = await acting.subscribe(receiver.url("/hook"), headers=[header("user-agent", "mine")])
    sent = await acting.acted(f"subscription/{subscription}/send-test")
    await acting.ended(sent["messageId"])
    request = await shown(acting, UUID(sent["messageId"]))
    [got] = receiver.requests
    assert [name for name, _ in request.headers] == [name for name, _ in got.headers]


def arguments(request: SentRequest) -> list[str]:
    """What a shell gives to `curl`."""
    script = 'curl() { printf "%s\\0" "$@"; }\n' + str(request.curl)
    printed = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assert printed.stderr == ""
    return printed.stdout.split("\0")[:-1]


def test_a_shell_gives_to_curl_what_was_sent_and_placeholders_for_secrets() -> None:
    body = json.dumps({"name": 'O\'Neil $(id) `id` \\ "é" %s !1', "id": str(uuid4())}, ensure_ascii=False)
    headers = [("Host", "receiver.example.com"), ("Authorization", None), ("X-A", "it's")]
    request = SentRequest("https://receiver.example.com/a'b?[x]={1}&y", headers, True, SentBody(body))
    assert arguments(request) == [
        *("-sS", "-i", "--globoff", "-X", "POST", "https://receiver.example.com/a'b?[x]={1}&y"),
        *("-H", "Authorization: <AUTHORIZATION>", "-H", "X-A: it's", "--data-raw", body),
    ]


def test_a_body_too_long_for_a_command_stands_in_a_file() -> None:
    request = SentRequest("https://receiver.example.com/", [], True, SentBody("x" * (ARGUMENT_BYTES + 1)))
    assert arguments(request)[-2:] == ["--data-binary", "@body.json"]


def test_without_a_body_there_is_nothing_to_repeat() -> None:
    assert SentRequest("https://receiver.example.com/", [], True, SentBody(None, "gone")).curl is None
