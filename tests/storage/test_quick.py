"""Quick connections: what goes wrong on one is told as elsewhere, and what is broken is not used again."""

import asyncio
import re
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage.database import Database
from storage.quick import QuickConnections, QuickStatement
from storage.unavailable import is_unavailable
from tests.databases import sqlalchemy_url
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.tcp_proxy import tcp_proxy

WHO = QuickStatement("SELECT pg_backend_pid() AS pid, CAST(:name AS text) || CAST(:name AS text) AS twice")
STAY = QuickStatement("SELECT pg_backend_pid() AS pid, pg_sleep(:seconds)")
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


async def test_an_idle_connection_that_the_server_is_ending_is_broken_and_no_mistake(ground: Ground) -> None:
    """The server says so first, and ends it a moment later; in between the driver lets no statement begin."""
    errors: list[DBAPIError] = []
    for _ in range(100):
        await ground.execute("SELECT pg_terminate_backend(:pid)", pid=await who(ground))
        try:
            await who(ground)
        except DBAPIError as error:
            errors.append(error)
            await who(ground)
    assert all(error.connection_invalidated for error in errors)


async def test_a_statement_that_is_given_up_takes_its_connection_with_it(ground: Ground) -> None:
    before = await who(ground)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ground.database.quick.fetch(HANG, {"seconds": 60})
    assert await who(ground) != before
    assert ground.database.quick.used == 0


async def test_a_statement_that_is_given_up_ends_at_the_server_too(ground: Ground) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ground.database.quick.fetch(HANG, {"seconds": 60})

    async def ended() -> bool:
        return not await ground.scalar("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'")

    await eventually(ended, 10, "the server has given it up")


async def test_after_one_that_broke_no_other_that_was_idle_then_is_used(database_url: str) -> None:
    server = urlsplit(database_url)
    async with tcp_proxy(server.hostname or "", server.port or 5432) as proxy:
        through = server._replace(netloc=f"{server.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
        quick = QuickConnections(partial(asyncpg.connect, through), 2)
        pids = {row["pid"] for [row] in await asyncio.gather(*(quick.fetch(STAY, {"seconds": 0.2}) for _ in range(2)))}
        assert len(pids) == 2
        proxy.forget()
        with pytest.raises(DBAPIError) as caught:
            await quick.fetch(STAY, {"seconds": 0})
        assert caught.value.connection_invalidated
        [row] = await quick.fetch(STAY, {"seconds": 0})
        assert row["pid"] not in pids
        await quick.close()


async def test_a_server_that_takes_no_more_connections_costs_none_of_those_there_are(database_url: str) -> None:
    answered = asyncio.Event()
    connections = 0

    async def connect() -> asyncpg.Connection:
        nonlocal connections
        connections += 1
        if connections == 1:
            return await asyncpg.connect(database_url)
        await answered.wait()
        raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

    quick = QuickConnections(connect, 2)
    first, refused = (asyncio.create_task(quick.fetch(STAY, {"seconds": 0.1})) for _ in range(2))
    [row] = await first
    answered.set()
    with pytest.raises(DBAPIError):
        await refused
    [again] = await quick.fetch(STAY, {"seconds": 0})
    assert again["pid"] == row["pid"]
    await quick.close()


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


@pytest.mark.parametrize("options", ["ssl=disable", "sslmode=disable", "ssl=prefer&prepared_statement_cache_size=50"])
async def test_what_an_address_says_of_connections_is_true_of_each_kind(database_url: str, options: str) -> None:
    database = Database(f"{sqlalchemy_url(database_url)}?{options}", pool_size=1)
    async with database.transaction() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    assert await who(Ground(database)) > 0
    listener = await database.listener()
    await listener.close()
    await database.close()
