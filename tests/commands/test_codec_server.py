"""`codec-server` serves what it is for, and says why when it will not start."""

from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from local.ports import hold_free
from tests.api.test_connections import ALIVE, peer
from tests.commands.running import run, start
from tests.deadlines import eventually

UI = "http://127.0.0.1:8233"
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://db.example.com/loyalty",
    "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "TEMPORAL_PAYLOAD_KEYS": Fernet.generate_key().decode(),
}


async def refused(directory: Path, *arguments: str, **environment: str) -> str:
    ended = await run("codec-server", *arguments, directory=directory, environment=ENVIRONMENT | environment)
    assert ended.code == 2
    return ended.errors


async def test_without_keys_there_is_nothing_to_decrypt(tmp_path: Path) -> None:
    said = await refused(tmp_path, "--ui-origin", UI, TEMPORAL_PAYLOAD_KEYS="")
    assert "TEMPORAL_PAYLOAD_KEYS is empty" in said


async def test_nobody_else_can_reach_it_unless_a_proxy_is_named(tmp_path: Path) -> None:
    assert "could read all payloads" in await refused(tmp_path, "--ui-origin", UI, "--host", "0.0.0.0")


@pytest.mark.parametrize("origin", ["*", "temporal.example.com", "https://temporal.example.com/path"])
async def test_an_origin_that_is_none_is_said(tmp_path: Path, origin: str) -> None:
    assert "is not an origin" in await refused(tmp_path, "--ui-origin", origin)


async def test_it_answers_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    with closing(hold_free()) as held:
        port: int = held.getsockname()[1]
    arguments = ("codec-server", "--ui-origin", UI, "--port", str(port))
    process = await start(*arguments, directory=tmp_path, environment=ENVIRONMENT)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"Origin": UI}, timeout=30) as client:

            async def answers() -> bool:
                try:
                    answer = await client.post("/decode", json={"payloads": []})
                except httpx.TransportError:
                    return False
                return answer.json() == {} and answer.headers["Access-Control-Allow-Origin"] == UI

            await eventually(answers, 30, "the codec server answers")
        async with peer(f"http://127.0.0.1:{port}") as hostile:
            # It is all read before the answer, which a reset would overtake otherwise.
            await hostile.send(ALIVE + b"a: " + b"a" * 17 * 1024 + b"\r\n\r\n")
            assert b" 431 " in await hostile.closed()
        process.terminate()
        await process.communicate()
        assert process.returncode in {0, -15}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
