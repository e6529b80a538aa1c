"""The connection to PostgreSQL: one engine per process, one transaction per request or activity."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from storage.unavailable import is_away, is_unavailable

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_SECONDS = 5
"""Time-out of connecting. A running database answers in milliseconds, and an outage should be reported soon."""

AWAY_SECONDS = 3.0
"""Time for which work is repeated while the server is away: one that was killed is back after 1 to 2 s."""

AGAIN_SECONDS = 0.1
MOST_REPEATED = 10_000
"""Maximum weight of the work that is repeated at once, such as events in memory."""

STATEMENT_SECONDS = 10.0
"""Timeout of a statement, longer than any statement of a worker takes. After it the connection counts as dead."""

STATEMENT_CACHE = 200
"""Prepared statements per connection: more than this project has."""

IDLE_IN_TRANSACTION_MS = 5000
"""Time-out of an idle transaction. A process stopped in mid-transaction would block all others by its row locks."""

SERVER_SETTINGS = {"jit": "off", "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS)}
"""Parameters of every session. PgBouncer does not forward them: docs/operating.md."""


class Database:
    """An engine and its transactions. `url` is a postgresql:// address. As a context, it is closed at the end.

    A statement without a response within `statement_seconds` raises TimeoutError: on a dead connection it would wait
    until the operating system gives up. None: no limit, for statements that may take long.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, name: str = "loyalty-webhooks", statement_seconds: float | None = None
    ) -> None:
        address = _for_the_driver(make_url(url))
        self.engine: AsyncEngine = create_async_engine(
            address,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=False,
            pool_use_lifo=True,
            hide_parameters=True,  # an error message must not contain a body or a header value
            json_serializer=lambda value: orjson.dumps(value).decode(),
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": statement_seconds,
                "prepared_statement_cache_size": STATEMENT_CACHE,
                "server_settings": {"application_name": name, **SERVER_SETTINGS},
            },
        )
        self._connect_args: dict[str, Any] = {**self.engine.dialect.create_connect_args(address)[1]}
        """Arguments of connections outside SQLAlchemy's pool, to the same server."""
        self._connect_args["timeout"] = CONNECT_SECONDS
        self._connect_args.pop("prepared_statement_cache_size", None)  # known to SQLAlchemy only
        self._away_since = self._failed_at = -inf
        self._repeated = 0
        self._autocommitting = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def pool(self) -> QueuePool:
        """The pool of connections."""
        return cast("QueuePool", self.engine.pool)  # the kind that `pool_size` makes

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction, committed when the block ends and rolled back when it raises."""
        async with _connected(self.engine) as connection, connection.begin():
            yield connection

    async def run(
        self, function: Callable[Concatenate[AsyncConnection, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run one function in a transaction of its own and return its result."""
        async with self.transaction() as connection:
            return await function(connection, *args, **kwargs)

    async def repeated(self, work: Callable[[], Awaitable[R]], weight: int = 1) -> R:
        """Return the result of some work, which is repeated while the server is away: at once, as its connection may be
        the only one that is dead, then until AWAY_SECONDS after the first failure of any work."""
        pause = 0.0
        self._repeated += weight
        try:
            while True:
                began = time.monotonic()
                try:
                    result = await work()
                except Exception as error:
                    if not is_away(error):
                        raise
                    if began - self._failed_at > AWAY_SECONDS:  # another outage
                        self._away_since = began
                    self._failed_at = time.monotonic()
                    too_many = pause > 0 and self._repeated > MOST_REPEATED
                    if self._failed_at - self._away_since > AWAY_SECONDS or too_many:
                        raise
                else:
                    self._failed_at = -inf
                    return result
                await asyncio.sleep(pause)
                pause = AGAIN_SECONDS
        finally:
            self._repeated -= weight

    @asynccontextmanager
    async def single_statements(self) -> AsyncIterator[AsyncConnection]:
        """Provide a connection that commits every statement, which saves the two round trips of a transaction."""
        async with _connected(self._autocommitting) as connection:
            yield connection

    async def ping(self) -> None:
        """Run an empty query; raises if the database does not respond."""
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def listener(self) -> asyncpg.Connection:
        """Open a connection for LISTEN outside the pool; the caller closes it."""
        return await asyncpg.connect(**self._connect_args)

    async def close(self) -> None:
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _for_the_driver(url: URL) -> URL:
    """Name the driver, and rename `sslmode`, the parameter of PostgreSQL's URLs, to the driver's `ssl`."""
    url = url.set(drivername="postgresql+asyncpg")
    mode = url.query.get("sslmode")
    return url if mode is None else url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Check a connection out of the pool.

    A connection that breaks while it is opened raises ConnectionError: SQLAlchemy passes the driver's error through
    unwrapped, and callers that wait for the database would not recognize it.
    """
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
