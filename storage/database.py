"""The connection to PostgreSQL: one engine a process, one transaction an edge."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType

import asyncpg
import orjson
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from storage.unavailable import is_unavailable

CONNECT_SECONDS = 5  # a database that is up answers in milliseconds; one that is not should be said so soon
STATEMENT_CACHE = 200  # more than the statements this project has
QUICK_SHARE = 1 / 5
"""Of a pool's connections, those for quick statements."""

QUICK = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}
"""How PostgreSQL plans what is asked over and over by key: once, and not by the size a table had at that moment. A
statement about one event takes a third longer otherwise; one about hundreds would be planned for ten."""

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
        self._url = url
        self._settings = {
            "application_name": name,
            "jit": "off",
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        }
        self._statement_seconds = statement_seconds
        quick = int(pool_size * QUICK_SHARE)
        self.engine: AsyncEngine = self._engine(pool_size - quick)
        self._autocommitting = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._quick = self._engine(quick, QUICK) if quick else self.engine
        self._quick_autocommitting = self._quick.execution_options(isolation_level="AUTOCOMMIT")

    def _engine(self, pool_size: int, settings: Mapping[str, str] = MappingProxyType({})) -> AsyncEngine:
        return create_async_engine(
            self._url,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=False,
            pool_use_lifo=True,
            hide_parameters=True,  # an error's text must not carry a body or a header value
            json_serializer=lambda value: orjson.dumps(value).decode(),
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": self._statement_seconds,
                "prepared_statement_cache_size": STATEMENT_CACHE,
                "server_settings": {**self._settings, **settings},
            },
        )

    @property
    def connections_used(self) -> int:
        """Connections of the pool that are in use now."""
        return sum(pool.checkedout() for pool in self._pools)

    @property
    def connections_most(self) -> int:
        """Connections the pool may have."""
        return sum(pool.size() for pool in self._pools)

    @property
    def _pools(self) -> list[QueuePool]:
        pools = [engine.pool for engine in {self.engine, self._quick}]
        return [pool for pool in pools if isinstance(pool, QueuePool)]

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

    @asynccontextmanager
    async def quick_statements(self) -> AsyncIterator[AsyncConnection]:
        """The same for statements about one event or a few, by key: their plans are kept (see QUICK)."""
        async with _connected(self._quick_autocommitting) as connection:
            yield connection

    async def listener(self) -> asyncpg.Connection:
        """A connection of its own for LISTEN, outside the pool; the caller closes it."""
        url = make_url(self._url)
        connect = partial(asyncpg.connect, timeout=CONNECT_SECONDS)
        return await connect(url.set(drivername="postgresql").render_as_string(hide_password=False))

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        await self._quick.dispose()


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool. One that breaks while it is being made raises ConnectionError: what the driver raises
    then comes past SQLAlchemy as it is, and whoever waits for the database to come back would not know it."""
    connection = engine.connect()
    try:
        await connection.start()
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_unavailable(error):
            raise ConnectionError(f"no connection to the database: {type(error).__name__}") from error
        raise
    try:
        yield connection
    finally:
        await connection.close()
