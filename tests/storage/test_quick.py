"""Quick connections: what goes wrong on one is told as elsewhere, and what is broken is not used again."""

import asyncio
import re
from uuid import uuid4

import pytest
from sqlalchemy.exc import DBAPIError

from storage.database import Database
from storage.quick import QuickStatement
from storage.unavailable import is_unavailable
from tests.databases import sqlalchemy_url
from tests.deadlines import eventually
from tests.ground import STORE, Ground

WHO = QuickStatement("SELECT pg_backend_pid() AS pid, CAST(:name AS text) || CAST(:name AS text) AS twice")
HANG = QuickStatement("SELECT pg_sleep(:seconds)")
PLAN = QuickStatement("EXPLAIN SELECT name FROM event WHERE store_code = :store AND event_id = :event")


async def who(ground: Ground) -> int:
    """The process that answers."""
    [row] = await ground.database.quick.fetch(WHO, {"name": "a"})
    pid: int = row["pid"]
    return pid


async def test_values_go_by_name_and_connections_are_used_again(ground: Ground) -> None:
    [row] = await ground.database.quick.fetch(WHO, {"name": "a"})
    assert row["twice"] == "aa"
    assert await who(ground) == row["pid"]


async def test_a_mistake_is_told_and_its_connection_goes_on(ground: Ground) -> None:
    before = await who(ground)
    with pytest.raises(DBAPIError) as caught:
        await ground.database.quick.fetch(WHO, {"name": "secret\0"})
    assert not is_unavailable(caught.value)
    assert "secret" not in str(caught.value)
    assert await who(ground) == before
    assert ground.database.quick.used == 0


async def test_a_server_process_that_ended_is_unavailable_once(ground: Ground) -> None:
    before = await who(ground)
    hanging = asyncio.create_task(ground.database.quick.fetch(HANG, {"seconds": 60}))

    async def hangs() -> bool:
        return bool(await ground.scalar("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"))

    await eventually(hangs, 10, "the statement runs")
    await ground.execute("SELECT pg_terminate_backend(:pid)", pid=before)
    with pytest.raises(DBAPIError) as caught:
        await hanging
    assert is_unavailable(caught.value)
    assert await who(ground) != before


async def test_a_statement_that_is_given_up_takes_its_connection_with_it(ground: Ground) -> None:
    before = await who(ground)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ground.database.quick.fetch(HANG, {"seconds": 60})
    assert await who(ground) != before
    assert ground.database.quick.used == 0


async def test_no_more_are_open_than_there_may_be(ground: Ground) -> None:
    answering = await asyncio.gather(*(who(ground) for _ in range(20)))
    assert len(set(answering)) <= ground.database.quick.most


async def test_a_plan_finds_by_key_also_while_the_table_is_empty(ground: Ground) -> None:
    rows = await ground.database.quick.fetch(PLAN, {"store": STORE, "event": uuid4()})
    plan = "\n".join(row[0] for row in rows)
    assert re.search("Index (Only )?Scan", plan), plan


async def test_nobody_there_is_unavailable(database_url: str) -> None:
    database = Database(re.sub(r":\d+/", ":1/", sqlalchemy_url(database_url)), pool_size=1)
    with pytest.raises((OSError, DBAPIError)) as caught:
        await database.quick.fetch(WHO, {"name": "a"})
    assert is_unavailable(caught.value)
    await database.close()
