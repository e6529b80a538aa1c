"""Statements about one event or a few, by key, on connections of their own: nothing between them and the driver.

Of the millisecond that such a statement took through SQLAlchemy while all is quiet, 0.6 were the way to the driver and
back, and a third of the server's part was planning. A plan is made once here, and never reads a table whole: what is
empty when a plan is made may be large when it is used. For statements about hundreds of rows this is no place: kept
plans take every array for ten long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import asyncpg as driver
from sqlalchemy.exc import DBAPIError

SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}
"""Of the connections: how PostgreSQL plans here."""


CLOSE_SECONDS = 2.0
"""A server that does not say goodbye within this is left."""


class QuickStatement:
    """A statement as the driver takes it, written like all others, with `:name` for each value."""

    def __init__(self, statement: str) -> None:
        compiled = text(statement).compile(dialect=driver.dialect())  # type: ignore[no-untyped-call]
        self.sql = str(compiled)
        self._names: Sequence[str] = compiled.positiontup or ()

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in their places."""
        return [values[name] for name in self._names]


class QuickConnections:
    """A few connections, made when they are wanted. Each statement is a transaction of its own."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], most: int) -> None:
        self._connect = connect
        self._idle: list[asyncpg.Connection] = []
        self._left: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(most)
        self.most = most
        self.used = 0

    async def fetch(self, statement: QuickStatement, values: Mapping[str, Any]) -> list[asyncpg.Record]:
        """The rows of a statement. Raises what SQLAlchemy would: DBAPIError, or OSError and TimeoutError as they are.

        A statement that is given up takes its connection with it. A connection that broke takes all that are idle: what
        broke it (a server restarted, a way cut) broke them too, and whoever tries once more is to have a new one.
        """
        async with self._free:
            self.used += 1
            connection = None
            try:
                connection = await self._connection()
                rows: list[asyncpg.Record] = await connection.fetch(statement.sql, *statement.arguments(values))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                if connection is not None and isinstance(error, asyncpg.InternalClientError) and not _ends(error):
                    self._leave(connection)
                    raise
                broken = connection is None or connection.is_closed() or _ends(error)
                if connection is not None and broken:
                    self._leave_all()
                elif connection is not None:
                    self._idle.append(connection)
                raise DBAPIError(
                    statement.sql, None, error, hide_parameters=True, connection_invalidated=broken
                ) from error
            except BaseException:
                if connection is not None:
                    self._leave(connection)
                raise
            finally:
                self.used -= 1
            self._idle.append(connection)
            return rows

    async def close(self) -> None:
        """Close those that are idle."""
        self._leave_all()
        while self._left:
            await asyncio.wait(self._left)

    def _leave_all(self) -> None:
        while self._idle:
            self._leave(self._idle.pop())

    def _leave(self, connection: asyncpg.Connection) -> None:
        """Close it, while nobody waits for that: the server is told to give up what was given up here. It would go on
        waiting for a lock, and those after it beside it."""
        leaving = asyncio.create_task(_close(connection), name="quick-connection-left")
        self._left.add(leaving)
        leaving.add_done_callback(self._left.discard)

    async def _connection(self) -> asyncpg.Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._connect()


def _ends(error: Exception) -> bool:
    """Whether the server has said that it ends the connection. The driver sees that end a moment later, and is until
    then in the middle of the last statement; or, where it was idle, lets no other begin."""
    if isinstance(error, asyncpg.InternalClientError):
        return str(error).startswith("cannot switch to state")
    return getattr(error, "severity_en", None) in ("FATAL", "PANIC")


async def _close(connection: asyncpg.Connection) -> None:
    with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.close(timeout=CLOSE_SECONDS)
