"""The plans PostgreSQL takes for the very statements and parameters that code under test sends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection


@asynccontextmanager
async def explained(connection: AsyncConnection, options: str = "") -> AsyncIterator[list[str]]:
    """Within the block, statements on the connection are noted; after it the list holds the plan of each."""
    sent: list[tuple[str, Any]] = []
    plans: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        sent.append((statement, parameters))

    event.listen(connection.sync_connection, "before_cursor_execute", note)
    try:
        yield plans
    finally:
        event.remove(connection.sync_connection, "before_cursor_execute", note)
    for statement, parameters in sent:
        rows = await connection.exec_driver_sql(f"EXPLAIN {options} {statement}", parameters)
        plans.append("\n".join(row[0] for row in rows))
