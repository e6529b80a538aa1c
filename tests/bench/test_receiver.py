"""The receiver of measurements fails the messages that its paths say, and reports their retries."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bench import handshakes
from bench.servers import Certificate, receiver


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with receiver() as (url, _), httpx.AsyncClient(base_url=url, timeout=30) as made:
        yield made


async def post(client: httpx.AsyncClient, path: str, message_id: str) -> int:
    answer = await client.post(path, content=f'{{"messageId":"{message_id}"}}')
    return answer.status_code


async def test_a_message_fails_once_and_its_retry_is_reported(client: httpx.AsyncClient) -> None:
    assert [await post(client, "/first/503/a", one) for one in ("x", "y", "x")] == [503, 503, 200]
    [(message_id, seconds)] = (await client.get("/retries")).json()
    assert message_id == "x"
    assert 0 < seconds < 10
    assert (await client.get("/failed")).json() == 2
    assert (await client.get("/count")).json() == 1


async def test_of_ten_messages_one_fails_however_often_they_come_again(client: httpx.AsyncClient) -> None:
    statuses = [await post(client, "/tenth/503", str(number)) for number in range(20)]
    assert [number for number, status in enumerate(statuses) if status == 503] == [9, 19]
    assert [await post(client, "/tenth/503", one) for one in ("9", "19")] == [200, 200]
    stats = (await client.get("/stats")).json()
    assert (stats["received"], stats["repeated"]) == (20, 0)


async def test_many_are_counted_only_and_a_reset_forgets_everything(client: httpx.AsyncClient) -> None:
    assert [await post(client, path, "x") for path in ("/many", "/plain", "/fail/410")] == [200, 200, 410]
    assert (await client.get("/stats")).json()["received"] == 2
    await client.post("/reset")
    assert (await client.get("/stats")).json() == {"received": 0, "repeated": 0}


async def test_a_slow_answer_comes_after_its_seconds(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/slow/5", content="{}", timeout=httpx.Timeout(30, read=0.2))
    assert await post(client, "/slow/0.1", "x") == 200


async def test_with_a_certificate_it_speaks_https(tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate.authority)
    async with (
        receiver(certificate.with_key) as (url, _),
        httpx.AsyncClient(base_url=url, verify=trusting, timeout=30) as client,
    ):
        assert await post(client, "/plain", "x") == 200
        assert (await client.get("/count")).json() == 1
    assert url.startswith("https://")


async def test_a_request_to_each_kind_of_connection_is_measured() -> None:
    found = (await handshakes.run(count=5, rounds=1))["kinds"]
    assert list(found) == list(handshakes.KINDS)
    assert all(one["p50_ms"] > 0 for one in found.values())


@pytest.mark.parametrize("tickets", [True, False])
async def test_a_session_can_be_resumed_unless_the_receiver_gives_no_tickets(tmp_path: Path, tickets: bool) -> None:
    certificate = Certificate.make(tmp_path)
    tls = ssl.create_default_context(cafile=certificate.authority)
    async with receiver(certificate.with_key, tickets=tickets) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), ssl=tls)
        writer.write(b"POST /close HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert b"Connection: close" in await reader.read()
        assert writer.get_extra_info("ssl_object").session.has_ticket == tickets
        writer.close()
