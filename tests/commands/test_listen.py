"""`listen` shows what arrives, hides what is secret, and sums up at the end."""

import json
import re
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from domain.wire.jsontext import dump, parse, pretty
from tests.commands.running import lines_until, run, running
from tests.local.test_receiver import Signed, new_key


class Listening:
    """A running `listen`, and requests to it."""

    def __init__(self, url: str, process: Process, client: httpx.AsyncClient) -> None:
        self.url = url
        self.process = process
        self._client = client

    async def send(self, body: bytes, headers: Mapping[str, str | bytes] | None = None, path: str = "/hook") -> int:
        return (
            await self._client.post(
                f"{self.url}{path}", content=body, headers=httpx.Headers([*(headers or {}).items()])
            )
        ).status_code

    async def end(self) -> str:
        """Everything it shows until its end by Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        shown = await lines_until(self.process, " answered with success, ")
        assert await self.process.wait() == 0
        return "\n".join(shown)


@asynccontextmanager
async def listening(directory: Path, *options: str) -> AsyncIterator[Listening]:
    async with (
        running("listen", "--port", "0", *options, directory=directory) as process,
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
    ):
        first = (await lines_until(process, "Listening on"))[-1]
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found is not None
        yield Listening(found[0], process, client)


async def test_a_signed_delivery_is_shown_whole_with_the_verdict_on_its_signatures(tmp_path: Path) -> None:
    key = new_key()
    async with listening(tmp_path, "--verify-key", key) as listen:
        signed = Signed(listen.url.removeprefix("http://"), key=key)
        assert await listen.send(signed.body, signed.headers) == 200
        assert await listen.send(signed.body, signed.headers) == 200
        shown = await listen.end()
    assert f"POST /hook CustomerUpdated modern {signed.message_id} answered 200" in shown
    assert f"{signed.message_id} duplicate answered 200" in shown
    assert shown.count("X-Webhook-Signature: good") == shown.count("webhook-signature: good") == 2
    assert '    "points": 10.10\n' in shown
    assert "2 requests, 2 answered with success, 1 duplicate, 0 without an id, 0 with a wrong signature" in shown


async def test_a_wrong_signature_says_which_and_why(tmp_path: Path) -> None:
    async with listening(tmp_path, "--brief", "--verify-key", new_key()) as listen:
        signed = Signed(listen.url.removeprefix("http://"), key=new_key())
        assert await listen.send(signed.body, signed.headers) == 401
        assert await listen.send(b"{}") == 401
        shown = await listen.end()
    assert "X-Webhook-Signature: WRONG: X-Webhook-Signature does not match" in shown
    assert "webhook-signature: WRONG: webhook-signature does not match" in shown
    assert "webhook-signature: WRONG: not signed" in shown
    assert "2 with a wrong signature" in shown


async def test_failing_first_then_the_status_asked_for(tmp_path: Path) -> None:
    async with listening(tmp_path, "--fail-first", "2", "--status", "410", "--delay-ms", "20") as listen:
        assert [await listen.send(b"{}") for _ in range(3)] == [503, 503, 410]
        shown = await listen.end()
    assert "3 requests, 0 answered with success" in shown


async def test_as_json_each_request_is_a_line_with_its_body_as_sent(tmp_path: Path) -> None:
    key = new_key()
    async with running("listen", "--port", "0", "--verify-key", key, "--json", directory=tmp_path) as process:
        assert process.stderr is not None
        found = re.search(rb"http://(127\.0\.0\.1:\d+)", await process.stderr.readline())
        assert found is not None
        signed = Signed(found[1].decode(), key=key)
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            await client.post(f"{found[0].decode()}/hook", content=signed.body, headers=httpx.Headers(signed.headers))
        [line] = await lines_until(process, "CustomerUpdated")
    shown = json.loads(line)
    assert '"points": 10.10' in shown["body"]
    assert (shown["messageId"], shown["status"]) == (signed.message_id, 200)
    assert set(shown["verification"].values()) == {"good"}


LEGACY = b'{"type":"customer.bought_campaign","createdAt":"x","data":{"customerId":"7","couponCode":"SUMMER-1"}}'
MODERN = (
    b'{"messageId":"6f9619ff-8b86-4011-b42d-00c04fc964ff","requestId":"r","eventName":"CustomerRequestedPasswordReset",'
    b'"storeCode":"default","createdAt":"x","data":{"code":"RESET-1"}}'
)


async def test_codes_and_own_headers_stay_hidden_unless_asked_for(tmp_path: Path) -> None:
    for options, visible in (((), False), (("--show-secrets",), True)):
        async with listening(tmp_path, *options) as listen:
            await listen.send(LEGACY, {"X-Own": "token-1"})
            await listen.send(MODERN)
            shown = await listen.end()
        assert [secret in shown for secret in ("SUMMER-1", "RESET-1", "token-1")] == [visible] * 3
        assert '"customerId": "7"' in shown


async def test_a_raw_body_is_shown_as_it_was_signed(tmp_path: Path) -> None:
    async with listening(tmp_path, "--raw") as listen:
        await listen.send(MODERN)
        shown = await listen.end()
    assert MODERN.decode() in shown.splitlines()
    assert "1 request, 1 answered with success, 0 duplicates" in shown
    async with running("listen", "--port", "0", "--raw", "--json", directory=tmp_path) as process:
        assert process.stderr is not None
        found = re.search(rb"http://127\.0\.0\.1:\d+", await process.stderr.readline())
        assert found is not None
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            await client.post(found[0].decode(), content=MODERN)
        [line] = await lines_until(process, "CustomerRequestedPasswordReset")
    assert json.loads(line)["body"].encode() == MODERN


async def test_nothing_that_arrives_can_command_the_terminal(tmp_path: Path) -> None:
    async with listening(tmp_path) as listen:
        await listen.send(b"\x1b[31mred \xc2\x9b31m", {"X-Webhook-Note": "\x9b31m".encode("latin-1")})
        await listen.send('{"type":"a","data":{"t":"\u202egnp.exe"}}'.encode())
        shown = await listen.end()
    assert "\\u001b[31mred \\u009b31m" in shown
    assert "\\u202egnp.exe" in shown
    assert all(character == "\n" or character.isprintable() for character in shown)


async def test_a_taken_port_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = await run("listen", "--port", str(taken.getsockname()[1]), directory=tmp_path)
    assert ended.code == 2
    assert "--port 0 takes a free port" in ended.errors


async def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    ended = await run("listen", "--port", "0", "--verify-key", "secret", directory=tmp_path)
    assert ended.code == 2
    assert "whsec_" in ended.errors


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a":[1,{"b":"x,y:{}[]"}],"c":{},"d":[]}', id="punctuation in strings"),
        pytest.param(r'{"a":"\"\\","b":"\\"}', id="quotes and backslashes"),
        pytest.param('{"n":[1E+2,-0,10.10,12345678901234567890.10]}', id="numbers"),
        pytest.param('"only text"', id="a string"),
    ],
)
def test_indenting_changes_nothing_but_white_space(text: str) -> None:
    assert dump(parse(pretty(text).encode())) == text
