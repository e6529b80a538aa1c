"""The programs for emitters, of the README and of docs/emitting.md, lose nothing and repeat nothing."""

import asyncio
import json
import os
import re
import socket
import sys
import uuid
from pathlib import Path

import asyncpg
import httpx

from domain.events.catalogue import CATALOGUE
from domain.wire.jsontext import dump
from tests.api.installation import installation
from tests.api.serving import serving
from tests.deadlines import eventually
from tests.house import ROOT
from tests.pages import blocks
from tests.receiver import Receiver, status
from tests.tcp_proxy import TcpProxy

PAGE = (ROOT / "docs" / "emitting.md").read_text()
NAME = "TransactionRegistered"
PATIENCE_SECONDS = 60
INSERT = "INSERT INTO outbox (event_name, data) VALUES ($1, $2) RETURNING event_id"


def block(language: str) -> str:
    """The first fenced block of the page in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_outbox_is_sent_once_the_api_is_there_and_keeps_what_was_refused(
    database_url: str, tmp_path: Path
) -> None:
    address = database_url.replace("+asyncpg", "")
    (tmp_path / "send_outbox.py").write_text(block("python"))
    database = await asyncpg.connect(address)
    await database.execute(block("sql"))
    data = dump(CATALOGUE[NAME].sample)
    first = await database.fetchval(INSERT, NAME, data)
    wrong = await database.fetchval(INSERT, NAME, '{"transaction": "much"}')
    row = await database.fetchrow("SELECT event_id, created_at, event_name, data FROM outbox LIMIT 1")
    async with installation(database_url) as installed, serving(installed.app) as root:
        shop = await installed.shop()
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # refuses connections until it listens
            environment = {
                "DATABASE": f"{address}?application_name=outbox",
                "API": f"http://127.0.0.1:{closed.getsockname()[1]}",
                "KEY": installed.admin_key,
                "STORE": shop.store,
            }
            program = await asyncio.create_subprocess_exec(
                sys.executable, "send_outbox.py", cwd=tmp_path, env=os.environ | environment
            )
            try:
                await eventually(lambda: tried(database), PATIENCE_SECONDS, "it has tried")
                host, _, port = root.removeprefix("http://").partition(":")
                async with await asyncio.start_server(TcpProxy(host, int(port)).serve, sock=closed):
                    await eventually(lambda: refused(database, wrong), PATIENCE_SECONDS, "the outbox is sent")
                    # As if the program had died between the 202 and its commit:
                    names, values = "event_id, created_at, event_name, data", "$1, $2, $3, $4"
                    await database.execute(f"INSERT INTO outbox ({names}) VALUES ({values})", *row)
                    await eventually(lambda: refused(database, wrong), PATIENCE_SECONDS, "the repeat is no conflict")
            finally:
                program.kill()
                await program.wait()
        answer = await shop.client.get(f"/api/{shop.store}/event/{first}")
    await database.close()
    assert answer.json()["data"] == json.loads(data)


async def tried(database: asyncpg.Connection) -> bool:
    """True once the program has ended a transaction, without an API."""
    last = "SELECT true FROM pg_stat_activity WHERE application_name = 'outbox' AND query LIKE 'COMMIT%'"
    return await database.fetchval(last) is not None


async def refused(database: asyncpg.Connection, event_id: uuid.UUID) -> bool:
    """True once this event alone is left, with its refusal."""
    left = await database.fetch("SELECT event_id, refusal FROM outbox")
    return [row["event_id"] for row in left] == [event_id] and "transaction" in (left[0]["refusal"] or "")


async def test_the_readmes_function_waits_as_long_as_the_api_asks(receiver: Receiver) -> None:
    ((_, code),) = blocks("Emitting from Python")
    names: dict[str, object] = {}
    exec(code, names)
    emit = names["emit"]
    assert callable(emit)
    receiver.script(status(503, headers=(("Retry-After", "1"),)), status(202, body=b'{"eventId": "7"}'))

    def emitted() -> object:
        with httpx.Client(base_url=receiver.url("/api/default/"), trust_env=False) as client:
            return emit(client, "CustomerUpdated", {})

    assert await asyncio.to_thread(emitted) == "7"
    first, second = receiver.requests
    assert first.body == second.body
    assert second.arrived_at - first.arrived_after >= 1
