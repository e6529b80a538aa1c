"""The receiver sees what was sent, says what is wrong with it and answers as told."""

import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook

from local.receiver import PLATFORM_SCHEME, STANDARD_SCHEME, Answering, ReceivedRequest, Receiver, usable_key


def new_key() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


KEY = new_key()


@dataclass
class Listening:
    """A started receiver, what it saw, and a client to send it something."""

    receiver: Receiver
    host: str
    client: httpx.AsyncClient
    seen: list[ReceivedRequest] = field(default_factory=list)

    async def send(self, body: bytes, path: str = "/hook", headers: dict[str, str] | None = None) -> int:
        url = f"http://{self.host}{path}"
        return (await self.client.post(url, content=body, headers=headers or {})).status_code


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
async def listening(answering: Answering) -> AsyncIterator[Listening]:
    seen: list[ReceivedRequest] = []
    receiver = Receiver(answering=answering, keys=[KEY], on_request=seen.append)
    port = await receiver.start()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield Listening(receiver, f"127.0.0.1:{port}", client, seen)
    await receiver.stop()


@dataclass
class Signed:
    """A modern delivery with the headers of both schemes, spelled out from their definitions."""

    host: str
    path: str = "/hook"
    key: str = KEY
    timestamp: int = field(default_factory=lambda: int(time.time()))
    message_id: str = field(default_factory=lambda: str(uuid4()))
    request_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def body(self) -> bytes:
        return (
            f'{{"messageId":"{self.message_id}","requestId":"{self.request_id}","eventName":"CustomerUpdated",'
            '"storeCode":"default","createdAt":"2026-01-02T03:04:05Z","data":{"points":10.10}}'
        ).encode()

    @property
    def headers(self) -> dict[str, str]:
        parts = (
            "POST",
            f"{len(self.host)}:{self.host}",
            f"{len(self.path)}:{self.path}",
            hashlib.sha256(self.body).hexdigest(),
            str(self.timestamp),
            self.request_id,
        )
        instant = datetime.fromtimestamp(self.timestamp, UTC)
        return {
            "X-Webhook-Signature": hmac.new(self.key[6:].encode(), "\n".join(parts).encode(), "sha256").hexdigest(),
            "X-Webhook-Signature-Algorithm": "hmac-sha256",
            "X-Webhook-Timestamp": str(self.timestamp),
            "X-Webhook-Request-Id": self.request_id,
            "X-Webhook-Signature-Version": "1",
            "webhook-id": self.message_id,
            "webhook-timestamp": str(self.timestamp),
            "webhook-signature": Webhook(self.key).sign(self.message_id, instant, self.body.decode()),
        }


async def test_a_request_is_seen_exactly_as_it_was_sent(listening: Listening) -> None:
    body = b'{"type":"customer.updated","data":{"customerId":"1","n":10.10}}'
    await listening.send(body, "/a%7Eb/%C3%A9?x=1&y=%20", {"X-Own_NAME": "a  b"})
    (received,) = listening.seen
    assert (received.method, received.host, received.target) == ("POST", listening.host, "/a%7Eb/%C3%A9?x=1&y=%20")
    assert received.body == body
    assert (b"X-Own_NAME", b"a  b") in received.headers.raw
    assert received.headers["x-own_name"] == "a  b"


async def test_a_body_that_is_too_large_is_refused_and_not_seen(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.receiver.BODY_LIMIT_BYTES", 100_000)
    assert await listening.send(b"x" * 100_001) == 413
    assert listening.seen == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"type":"customer.updated","data":{}}', ("legacy", "customer.updated"), id="legacy"),
        pytest.param(
            b'{"messageId":"00000000-0000-4000-8000-000000000001","requestId":"r","eventName":"CustomerUpdated"}',
            ("modern", "CustomerUpdated"),
            id="modern",
        ),
        pytest.param(b'{"messageId":"not a uuid","eventName":"A"}', ("other", "A"), id="id that is none"),
        pytest.param(b"[1]", ("other", None), id="array"),
        pytest.param(b"\xff not JSON", ("other", None), id="not JSON"),
        pytest.param(b"", ("other", None), id="empty"),
    ],
)
async def test_the_format_of_any_body_is_told(
    listening: Listening, body: bytes, expected: tuple[str, str | None]
) -> None:
    assert await listening.send(body) == 401, "not signed"
    assert (listening.seen[0].format, listening.seen[0].event_name) == expected


async def test_a_rightly_signed_request_verifies_in_both_schemes(listening: Listening) -> None:
    signed = Signed(listening.host, path="/h%20k")
    await listening.send(signed.body, "/h%20k?not=signed", signed.headers)
    assert listening.seen[0].verification == {PLATFORM_SCHEME: [], STANDARD_SCHEME: []}
    assert listening.receiver.counts.unverified == 0


async def test_a_changed_body_fails_both_schemes(listening: Listening) -> None:
    signed = Signed(listening.host)
    await listening.send(signed.body + b" ", headers=signed.headers)
    found = listening.seen[0].verification
    assert "X-Webhook-Signature does not match" in found[PLATFORM_SCHEME][0]
    assert "webhook-signature does not match" in found[STANDARD_SCHEME][0]
    assert listening.receiver.counts.unverified == 1


async def test_a_changed_path_fails_only_the_scheme_that_signs_it(listening: Listening) -> None:
    signed = Signed(listening.host, path="/elsewhere")
    await listening.send(signed.body, headers=signed.headers)
    found = listening.seen[0].verification
    assert "5:/hook" in found[PLATFORM_SCHEME][0]
    assert found[STANDARD_SCHEME] == []


async def test_an_old_timestamp_is_named_with_its_age(listening: Listening) -> None:
    signed = Signed(listening.host, timestamp=int(time.time()) - 1000)
    await listening.send(signed.body, headers=signed.headers)
    for found in listening.seen[0].verification.values():
        assert "s behind this clock" in found[0]
        assert len(found) == 1


async def test_missing_headers_are_named(listening: Listening) -> None:
    signed = Signed(listening.host)
    headers = signed.headers
    del headers["X-Webhook-Timestamp"], headers["webhook-id"]
    await listening.send(signed.body, headers=headers)
    assert listening.seen[0].verification == {
        PLATFORM_SCHEME: ["header X-Webhook-Timestamp is missing"],
        STANDARD_SCHEME: ["header webhook-id is missing"],
    }


async def test_ids_that_differ_between_header_and_body_are_named(listening: Listening) -> None:
    signed, other = Signed(listening.host), Signed(listening.host)
    await listening.send(other.body, headers=signed.headers)
    found = listening.seen[0].verification
    assert any("requestId" in problem for problem in found[PLATFORM_SCHEME])
    assert any("messageId" in problem for problem in found[STANDARD_SCHEME])


async def test_during_a_rotation_one_known_signature_of_two_is_enough(listening: Listening) -> None:
    signed, rotated = Signed(listening.host), Signed(listening.host)
    rotated.key, rotated.message_id, rotated.request_id = new_key(), signed.message_id, signed.request_id
    headers = signed.headers
    headers["webhook-signature"] = f"{rotated.headers['webhook-signature']} {headers['webhook-signature']}"
    await listening.send(signed.body, headers=headers)
    assert listening.seen[0].verification[STANDARD_SCHEME] == []


async def test_a_message_answered_with_success_before_is_a_duplicate(listening: Listening) -> None:
    signed = Signed(listening.host)
    for _ in range(2):
        await listening.send(signed.body, headers=signed.headers)
    assert [received.duplicate for received in listening.seen] == [False, True]
    assert listening.receiver.counts.duplicates == 1


@pytest.mark.parametrize("answering", [Answering(status=204, fail_first=2)])
async def test_the_first_requests_fail_and_their_repeats_are_no_duplicates(listening: Listening) -> None:
    signed = Signed(listening.host)
    answers = [await listening.send(signed.body, headers=signed.headers) for _ in range(3)]
    assert answers == [503, 503, 204]
    assert [received.duplicate for received in listening.seen] == [False, False, False]
    assert listening.receiver.counts.succeeded == 1


@pytest.mark.parametrize("answering", [Answering(status=503, fail_first=1)])
async def test_a_wrong_signature_is_told_apart_from_an_answer_that_fails_by_wish(listening: Listening) -> None:
    signed = Signed(listening.host)
    assert [await listening.send(b"{}") for _ in range(2)] == [503, 401]
    assert await listening.send(signed.body, headers=signed.headers) == 503


@pytest.mark.parametrize("answering", [Answering(delay_seconds=60)])
async def test_stopping_does_not_wait_for_a_slow_answer(listening: Listening) -> None:
    under_way = asyncio.create_task(listening.send(b"{}"))
    deadline = time.monotonic() + 10
    while not listening.seen:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await listening.receiver.stop()
        with pytest.raises(httpx.TransportError):
            await under_way


async def test_a_body_of_several_mebibytes_is_read_whole(listening: Listening) -> None:
    await listening.send(b"x" * 3_000_000)
    assert len(listening.seen[0].body) == 3_000_000


async def test_an_address_already_taken_is_an_os_error(listening: Listening) -> None:
    with pytest.raises(OSError, match="in use"):
        await Receiver().start("127.0.0.1", int(listening.host.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("secret", "starts with whsec_", id="no prefix"),
        pytest.param("whsec_***", "not standard base64", id="not base64"),
        pytest.param("whsec_" + base64.b64encode(b"short").decode(), "this one has 5", id="5 bytes"),
    ],
)
def test_a_key_that_is_none_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        usable_key(text)
