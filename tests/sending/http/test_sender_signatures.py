"""1,000 random deliveries over the wire, some in the middle of a rotation, verified by foreign code at the other end.

Two foreign libraries (standardwebhooks of PyPI and of npm) and a second implementation of the
platform's own scheme. Each accepts what was sent, with every key valid then, and refuses it with any byte changed.
"""

import asyncio
import base64
import json
import random
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import standardwebhooks

from domain.urls.rules import normalise_url
from domain.wire.signing import format_secret, signature_headers
from tests.domain.reference_signatures import platform_signature
from tests.node_packages import FOLDER, node, node_modules
from tests.receiver import Received, Receiver
from tests.sending.http.sending import LOCAL, local_sender, request_to

DELIVERIES = 1000
IN_FLIGHT = 16
ALPHABET = 'abc {}[]":,0123456789.-eE\\n\u00e4\u6f22\U0001f600\u2028\u202e\x7f'


@dataclass(frozen=True)
class Case:
    """What arrived, and with which keys."""

    received: Received
    key: str
    previous_key: str | None

    def valid_keys(self) -> list[str]:
        return [self.key, *([self.previous_key] if self.previous_key else [])]


async def arrivals(seed: int) -> list[Case]:
    """Send random deliveries and return them as they arrived."""
    chance = random.Random(seed)
    keys: dict[str, tuple[str, str | None]] = {}
    async with Receiver() as receiver, local_sender() as sender:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def deliver(body: bytes, path: str, key: str, previous_key: str | None) -> None:
            url = normalise_url(receiver.url(path), LOCAL)
            message_id = str(uuid.UUID(int=chance.getrandbits(128)))
            keys[message_id] = (key, previous_key)
            headers = signature_headers(
                method="POST",
                host=url.host,
                path=url.path,
                body=body,
                timestamp=int(time.time()),
                request_id=str(uuid.UUID(int=chance.getrandbits(128))),
                message_id=message_id,
                secret=key,
                previous_secret=previous_key,
                version=chance.randrange(1, 100),
            )
            async with slots:
                result = await sender.send(request_to(url.url, body, tuple(headers)))
            assert result.status_code == 200, result

        async with asyncio.TaskGroup() as group:
            for _ in range(DELIVERIES):
                text = "".join(chance.choices(ALPHABET, k=chance.randrange(0, 400)))
                body = json.dumps({"data": text}, ensure_ascii=False).encode()
                path = "/" + "".join(chance.choices("ab/%7E%C3%A4~?&=+", k=chance.randrange(0, 3))).replace("%", "%2F")
                rotated = chance.random() < 0.4
                key = format_secret(chance.randbytes(32))
                group.create_task(deliver(body, path, key, format_secret(chance.randbytes(32)) if rotated else None))
        return [Case(received, *keys[received.header("webhook-id") or ""]) for received in receiver.requests]


@pytest.fixture(scope="module")
async def cases() -> list[Case]:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return await arrivals(seed)


def flipped(text: str, index: int) -> str:
    return text[:index] + ("0" if text[index] != "0" else "1") + text[index + 1 :]


def with_flipped_signatures(headers: dict[str, str], chance: random.Random) -> dict[str, str]:
    """One byte changed in each signature of `webhook-signature`: in its bytes, not in base64's idle bits."""
    changed = []
    for entry in headers["webhook-signature"].split(" "):
        digest = bytearray(base64.b64decode(entry.removeprefix("v1,")))
        digest[chance.randrange(len(digest))] ^= 1 << chance.randrange(8)
        changed.append("v1," + base64.b64encode(digest).decode())
    return headers | {"webhook-signature": " ".join(changed)}


def tampered(case: Case, chance: random.Random) -> Iterator[tuple[bytes, dict[str, str]]]:
    """The delivery with one byte changed, at a random place of each of its parts."""
    body, headers = case.received.body, case.received.header_dict()
    place = chance.randrange(len(body) + 1)
    yield body[:place] + bytes([(body[place] ^ 1) if place < len(body) else 0x20]) + body[place + 1 :], headers
    yield body, headers | {"webhook-id": flipped(headers["webhook-id"], chance.randrange(36))}
    yield body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + chance.choice([-1, 1]))}
    yield body, with_flipped_signatures(headers, chance)
    yield body, {name: value for name, value in headers.items() if name != "webhook-signature"}


def accepted(key: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        standardwebhooks.Webhook(key).verify(body, headers, json_parse=False)
    except (standardwebhooks.WebhookVerificationError, UnicodeDecodeError):
        return False
    return True


async def test_the_library_of_pypi_accepts_each_delivery_by_each_valid_key_and_nothing_else(cases: list[Case]) -> None:
    chance = random.Random(1)
    stranger = format_secret(bytes(32))
    assert len(cases) == DELIVERIES
    assert sum(case.previous_key is not None for case in cases) > DELIVERIES / 4
    for case in cases:
        body, headers = case.received.body, case.received.header_dict()
        assert not accepted(stranger, body, headers)
        for key in case.valid_keys():
            assert accepted(key, body, headers)
            for changed_body, changed_headers in tampered(case, chance):
                assert not accepted(key, changed_body, changed_headers)


@pytest.mark.usefixtures("programs")
async def test_the_library_of_npm_accepts_each_delivery_by_each_valid_key_and_nothing_else(cases: list[Case]) -> None:
    interpreter, _ = node(), node_modules()
    chance = random.Random(2)
    lines, expected = [], []
    for case in cases:
        whole = (case.received.body, case.received.header_dict())
        for key in case.valid_keys():
            for body, headers in [whole, *tampered(case, chance)]:
                text = base64.b64encode(body).decode()
                lines.append(json.dumps({"body": text, "headers": headers, "key": key}))
                expected.append("true" if (body, headers) == whole else "false")
    process = await asyncio.create_subprocess_exec(
        interpreter, "verify.mjs", cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate("\n".join(lines).encode()), 60)
    assert output.decode().split() == expected


def platform_accepts(key: str, received: Received) -> bool:
    """The second implementation, over what is seen at the receiving end alone."""
    vector = {
        "method": received.method,
        "host": received.header("Host"),
        "path": received.target.partition("?")[0],
        "body": received.body.decode("utf-8", "replace"),
        "timestamp": received.header("X-Webhook-Timestamp"),
        "requestId": received.header("X-Webhook-Request-Id"),
        "secret": key,
    }
    return platform_signature(vector) == received.header("X-Webhook-Signature")


def with_header(received: Received, name: str, value: str) -> Received:
    return replace(received, headers=[(key, value if key == name else old) for key, old in received.headers])


async def test_the_platform_signature_holds_for_the_new_key_and_for_nothing_else(cases: list[Case]) -> None:
    chance = random.Random(3)
    for case in cases:
        received = case.received
        assert platform_accepts(case.key, received)
        assert case.previous_key is None or not platform_accepts(case.previous_key, received)
        place = chance.randrange(len(received.body) + 1)
        request_id = received.header("X-Webhook-Request-Id") or ""
        signature = received.header("X-Webhook-Signature") or ""
        for changed in (
            replace(received, body=received.body[:place] + b"!" + received.body[place + 1 :]),
            replace(received, method="PUT"),
            replace(received, target="/x" + received.target),
            with_header(received, "Host", "example.com"),
            with_header(received, "X-Webhook-Timestamp", str(int(received.header("X-Webhook-Timestamp") or 0) + 1)),
            with_header(received, "X-Webhook-Request-Id", flipped(request_id, chance.randrange(36))),
            with_header(received, "X-Webhook-Signature", flipped(signature, chance.randrange(64))),
        ):
            assert changed == received or not platform_accepts(case.key, changed)


async def test_both_signatures_of_a_delivery_carry_the_same_ids_and_time(cases: list[Case]) -> None:
    for case in cases:
        headers = case.received.header_dict()
        assert headers["x-webhook-timestamp"] == headers["webhook-timestamp"]
        assert headers["x-webhook-signature-algorithm"] == "hmac-sha256"
        assert len(headers["webhook-signature"].split(" ")) == len(case.valid_keys())
        assert uuid.UUID(headers["webhook-id"]) != uuid.UUID(headers["x-webhook-request-id"])
