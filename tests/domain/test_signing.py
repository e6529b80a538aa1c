"""Both signatures agree with a second implementation, with published values, and with nothing that was changed."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from domain.urls.rules import UrlRules, normalise_url
from domain.wire.signing import (
    MalformedSecretError,
    format_secret,
    secret_keys,
    signature_headers,
    signed_text,
    standard_signature,
)
from tests.domain.reference_signatures import SECRET, VECTORS, expected_headers, render

COMMITTED: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]


def headers_of(vector: dict[str, Any]) -> dict[str, str]:
    return dict(
        signature_headers(
            method=vector["method"],
            host=vector["host"],
            path=vector["path"],
            body=vector["body"].encode(),
            timestamp=vector["timestamp"],
            request_id=vector["requestId"],
            message_id=vector["messageId"],
            secret=vector["secret"],
            previous_secret=vector["previousSecret"],
            version=vector["version"],
        )
    )


@pytest.mark.parametrize("vector", COMMITTED, ids=lambda vector: vector["name"])
def test_the_committed_vectors_are_what_is_sent(vector: dict[str, Any]) -> None:
    assert headers_of(vector) == vector["headers"]
    assert (
        signed_text(
            vector["method"],
            vector["host"],
            vector["path"],
            vector["body"].encode(),
            vector["timestamp"],
            vector["requestId"],
        )
        == vector["platformText"].encode()
    )


@pytest.mark.parametrize("vector", COMMITTED, ids=lambda vector: vector["name"])
def test_host_and_path_of_the_vectors_are_those_of_their_normalised_url(vector: dict[str, Any]) -> None:
    normal = normalise_url(vector["url"], UrlRules())
    assert (normal.url, normal.host, normal.path) == (vector["url"], vector["host"], vector["path"])


def test_the_committed_file_is_the_second_implementation_of_the_contract() -> None:
    assert VECTORS.read_text(encoding="utf-8") == render(), "python -m tests.domain.reference_signatures writes it"


def test_the_published_value_of_the_standard_webhooks_specification_is_met() -> None:
    # The specification's own example: secret, id, timestamp, payload.
    secret, message_id, timestamp = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    body = b'{"test": 2432232314}'
    signature = standard_signature(base64.b64decode(secret), message_id, timestamp, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(
    body=st.binary(max_size=300),
    host=st.from_regex(r"[a-z0-9.-]{1,40}(:[0-9]{1,5})?", fullmatch=True),
    path=st.from_regex(r"/[!-~]{0,60}", fullmatch=True),
    timestamp=st.integers(0, 2**40),
    keys=st.tuples(st.binary(min_size=32, max_size=32), st.none() | st.binary(min_size=32, max_size=32)),
    version=st.integers(1, 10**6),
    ids=st.tuples(st.uuids(), st.uuids()),
)
def test_both_implementations_agree_on_anything(
    body: bytes,
    host: str,
    path: str,
    timestamp: int,
    keys: tuple[bytes, bytes | None],
    version: int,
    ids: tuple[object, object],
) -> None:
    text = body.decode("utf-8", "replace")
    vector = {
        "method": "POST",
        "host": host,
        "path": path,
        "body": text,
        "timestamp": timestamp,
        "requestId": str(ids[0]),
        "messageId": str(ids[1]),
        "secret": format_secret(keys[0]),
        "previousSecret": None if keys[1] is None else format_secret(keys[1]),
        "version": version,
    }
    assert headers_of(vector) == expected_headers(vector)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_shown_in_the_form_every_verifier_takes(random_bytes: bytes) -> None:
    secret = format_secret(random_bytes)
    assert len(secret) == 50
    assert secret_keys(secret) == (secret[6:].encode(), random_bytes)
    assert Webhook(secret)._whsecret == random_bytes


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", SECRET[6:], SECRET[:-1], SECRET + "=", "whsec_" + "A" * 40, SECRET.replace("A", "*"), SECRET + "\n"],
    ids=["empty", "prefix only", "no prefix", "no padding", "too much padding", "30 bytes", "not base64", "line feed"],
)
def test_what_is_no_key_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(MalformedSecretError) as refused:
        secret_keys(secret)
    assert secret[6:12] == "" or secret[6:12] not in str(refused.value)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_keys_are_made_of_32_bytes(length: int) -> None:
    with pytest.raises(MalformedSecretError):
        format_secret(bytes(length))


@pytest.mark.parametrize("part", ["method", "host", "path", "body", "timestamp", "requestId"])
def test_the_platform_signature_covers_each_of_its_six_parts(part: str) -> None:
    vector = COMMITTED[0]
    changed = vector | {part: vector[part] + 1 if part == "timestamp" else vector[part] + "x"}
    assert headers_of(changed)["X-Webhook-Signature"] != vector["headers"]["X-Webhook-Signature"]


def test_parts_cannot_be_shifted_into_one_another() -> None:
    one = signed_text("POST", "a\n1:b", "/", b"", 1, "r")
    two = signed_text("POST", "a", "b\n1:/", b"", 1, "r")
    assert one != two


def test_a_rotation_adds_the_old_key_to_the_standard_header_alone() -> None:
    before, during = COMMITTED[0] | {"previousSecret": None}, COMMITTED[0] | {"previousSecret": SECRET}
    plain, rotated = headers_of(before), headers_of(during)
    assert rotated["webhook-signature"] == " ".join([plain["webhook-signature"]] * 2)
    assert rotated["X-Webhook-Signature"] == plain["X-Webhook-Signature"]
