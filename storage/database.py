"""The connection to PostgreSQL: one engine a process, one transaction an edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from storage.unavailable import is_unavailable

CONNECT_SECONDS = 5  # a database that is up answers in milliseconds; one that is not should be said so soon
STATEMENT_CACHE = 200  # more than the statements this project has
IDLE_IN_TRANSACTION_MS = 5000  # a process stopped in mid-transaction would keep its row locks from all others


class Database:
    """An engine and its transactions. `url` is SQLAlchemy's form, with the asyncpg driver.

    A statement that is not answered within `statement_seconds` raises TimeoutError: a connection over which nothing
    comes any more would be waited for until the operating system gives up. None for those that may take long.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        name: str = "loyalty-webhooks",
        statement_seconds: float | None = None,
    ) -> None:
        address = _as_the_driver_names_tls(make_url(url))
        self.engine: AsyncEngine = create_async_engine(
            address,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=False,
            pool_use_lifo=True,
            hide_parameters=True,  # an error's text must not carry a body or a header value
            json_serializer=lambda value: orjson.dumps(value).decode(),
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": statement_seconds,
                "prepared_statement_cache_size": STATEMENT_CACHE,
                "server_settings": {
                    "application_name": name,
                    "jit": "off",
                    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
                },
            },
        )
        self._connect_args: dict[str, Any] = {**self.engine.dialect.create_connect_args(address)[1]}
        """Of the connections that SQLAlchemy does not make: the same server in the same way."""
        self._connect_args["timeout"] = CONNECT_SECONDS
        self._connect_args.pop("prepared_statement_cache_size", None)  # SQLAlchemy's own
        self._autocommitting = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def connections_used(self) -> int:
        """Connections of the pool that are in use now."""
        return self._pool.checkedout()

    @property
    def connections_most(self) -> int:
        """Connections the pool may have."""
        return self._pool.size()

    @property
    def _pool(self) -> QueuePool:
        pool = self.engine.pool
        if not isinstance(pool, QueuePool):
            raise TypeError(f"{type(pool).__name__} has no size")
        return pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with _connected(self.engine) as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def single_statements(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement is a transaction of its own: two round trips less than a block."""
        async with _connected(self._autocommitting) as connection:
            yield connection

    async def ping(self) -> None:
        """Raise if the database does not answer a statement."""
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def listener(self) -> asyncpg.Connection:
        """A connection of its own for LISTEN, outside the pool; the caller closes it."""
        return await asyncpg.connect(**self._connect_args)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _as_the_driver_names_tls(url: URL) -> URL:
    """With `sslmode`, as PostgreSQL's own addresses have it, under the driver's name for it."""
    mode = url.query.get("sslmode")
    return url if mode is None else url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool. One that breaks while it is being made raises ConnectionError: what the driver raises
    then comes past SQLAlchemy as it is, and whoever waits for the database to come back would not know it."""
    connection = engine.connect()
    try:
        await connection.start()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if is_unavailable(error):
            raise ConnectionError(f"no connection to the database: {type(error).__name__}") from error
        raise
    try:
        yield connection
    finally:
        await connection.close()
