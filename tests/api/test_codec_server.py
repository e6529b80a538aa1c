"""The codec server shows what is encrypted to the Web UI it was told of, and to no other page."""

from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography.fernet import Fernet
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from api.codec_server import codec_app
from temporal.codec import EncryptingCodec

KEY = Fernet.generate_key().decode()
UI = "https://temporal.example.com"
PAYLOAD = Payload(metadata={"encoding": b"json/plain"}, data=b'"said"')
CLEAR = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "InNhaWQi"}]}


@pytest.fixture
async def server() -> AsyncIterator[httpx.AsyncClient]:
    app = codec_app(EncryptingCodec([KEY]), origins=[UI], hosts=["127.0.0.1"])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8888", headers={"Origin": UI}) as one:
        yield one


async def encrypted(key: str = KEY) -> object:
    return json_format.MessageToDict(Payloads(payloads=await EncryptingCodec([key]).encode([PAYLOAD])))


async def test_what_temporal_holds_is_decrypted_for_the_web_ui(server: httpx.AsyncClient) -> None:
    answer = await server.post("/decode", json=await encrypted(), headers={"X-Namespace": "default"})
    assert (answer.status_code, answer.json()) == (200, CLEAR)
    assert answer.headers["Access-Control-Allow-Origin"] == UI


async def test_what_the_web_ui_sends_is_encrypted_and_reads_the_same(server: httpx.AsyncClient) -> None:
    coded = (await server.post("/encode", json=CLEAR)).json()
    assert coded != CLEAR
    assert (await server.post("/decode", json=coded)).json() == CLEAR


async def test_a_page_of_another_site_gets_no_permission_to_read(server: httpx.AsyncClient) -> None:
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert (await server.options("/decode", headers=asking)).status_code == 200
    foreign = await server.options("/decode", headers=asking | {"Origin": "https://evil.example.com"})
    assert foreign.status_code == 400
    assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_a_request_that_needs_no_permission_of_the_browser_is_refused(server: httpx.AsyncClient) -> None:
    simple = await server.post("/decode", content="{}", headers={"Content-Type": "text/plain"})
    assert simple.status_code == 415


async def test_a_name_that_was_rebound_to_this_address_is_not_answered(server: httpx.AsyncClient) -> None:
    assert (await server.post("/decode", json=CLEAR, headers={"Host": "evil.example.com"})).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ("{", 400, "not a list of payloads"),
        ('{"payloads": 3}', 400, "not a list of payloads"),
        ("\u00ff", 400, "not a list of payloads"),
    ],
    ids=["no JSON", "no list", "no object"],
)
async def test_what_is_no_payload_is_refused_with_the_cause(
    server: httpx.AsyncClient, body: str, status: int, part: str
) -> None:
    answer = await server.post("/decode", content=body.encode("latin-1"), headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert part in answer.json()["message"]


async def test_a_missing_key_is_said(server: httpx.AsyncClient) -> None:
    answer = await server.post("/decode", json=await encrypted(Fernet.generate_key().decode()))
    assert answer.status_code == 422
    assert "TEMPORAL_PAYLOAD_KEYS" in answer.json()["message"]


async def test_a_body_too_large_is_refused_before_it_is_read(server: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(17 * 1024 * 1024)}
    assert (await server.post("/decode", content=b"{}", headers=headers)).status_code == 413
