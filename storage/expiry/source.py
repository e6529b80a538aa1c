"""Expiry rows read from three views in the platform's PostgreSQL.

Every transaction is read-only and has a statement time-out. Due rows are read through a server-side cursor, one page in
memory at a time. The views and their columns: docs/expiring.md.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import ValidationError

from domain.expiry.rows import Kind
from storage.database import CONNECT_SECONDS
from storage.expiry.rows import RELATIONS, SEALED, DueRow, Relation
from storage.unavailable import BROKEN_CONNECTION, is_unavailable, outage_text

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""Maximum number of connections. The platform's database has to serve its members first."""

STORE_CODE = "store_code"

TYPES: Mapping[str, frozenset[str]] = {
    "uuid": frozenset({"uuid"}),
    "text": frozenset({"text", "character varying", "character", "citext", "name"}),
    "numeric": frozenset({"numeric", "smallint", "integer", "bigint"}),
    "timestamptz": frozenset({"timestamp with time zone"}),
    "boolean": frozenset({"boolean"}),
}
"""Types that a view's column may have for each type; an enum is also accepted as text."""

_COLUMNS = """
SELECT attribute.attname AS name, format_type(attribute.atttypid, NULL) AS type, type.typtype = 'e' AS is_enum
FROM pg_attribute AS attribute JOIN pg_type AS type ON type.oid = attribute.atttypid
WHERE attribute.attrelid = $1 AND attribute.attnum > 0 AND NOT attribute.attisdropped
"""


class SourceUnusableError(Exception):
    """The platform's database lacks a view or a column, or denies reading it."""


class SourceAwayError(ConnectionError):
    """An outage of the platform's database. Its text names the database."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a view and its solution; `column` is None if it concerns the whole view."""

    view: str
    column: str | None
    problem: str


def source_columns(relation: Relation) -> dict[str, str]:
    """Return every column of a view with its type."""
    columns = {STORE_CODE: "text", **relation.columns}
    return dict(("code", "text") if column == SEALED else (column, type_) for column, type_ in columns.items())


def _select(relation: Relation) -> str:
    columns = ", ".join(column for column in source_columns(relation) if column != STORE_CODE)
    return f"SELECT {columns} FROM {relation.view} WHERE {STORE_CODE} = $1 AND {relation.expires}"


class PlatformRows:
    """The views of one database. Connects at the first use; call `close` at the end."""

    def __init__(self, url: str, *, statement_timeout_seconds: float) -> None:
        self._url = url
        self._statement_timeout = f"{statement_timeout_seconds * 1000:.0f}ms"
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def due_pages(
        self, store_code: str, kind: Kind, after: tuple[datetime, UUID], end: datetime, page_rows: int
    ) -> AsyncGenerator[list[DueRow], None]:
        """Yield rows that expire before `end`, by instant and id, beginning behind `after`.

        One snapshot and one connection are held until the iteration ends (use `contextlib.aclosing` if it may end
        early). `imported_at` is the row's `updated_at`, the best approximation. Rows that are not valid for an event
        are skipped and logged as warnings. Raises SourceUnusableError.
        """
        relation = RELATIONS[kind]
        start, identity = after
        position = f"{relation.instant}, {relation.identity}"
        condition = f"{relation.instant} >= $2 AND {relation.instant} < $3 AND ({position}) > ($2, $4)"
        statement = f"{_select(relation)} AND {condition} ORDER BY {position}"
        async with self._reading(relation) as connection:
            cursor = await connection.cursor(statement, store_code, start, end, identity)
            while records := await cursor.fetch(page_rows):
                page = _rows(relation, records)
                if page:
                    yield page

    async def still_due(self, store_code: str, kind: Kind, identities: Sequence[UUID]) -> dict[UUID, DueRow]:
        """Return the current rows of those objects that expire. Raises SourceUnusableError."""
        relation = RELATIONS[kind]
        statement = f"{_select(relation)} AND {relation.identity} = ANY($2::uuid[])"
        async with self._reading(relation) as connection:
            records = await connection.fetch(statement, store_code, list(identities))
            return {row.identity: row for row in _rows(relation, records)}

    async def count_due(self, store_code: str, kind: Kind, start: datetime, end: datetime) -> int:
        """Count the rows that expire from `start` on and before `end`. Raises SourceUnusableError."""
        relation = RELATIONS[kind]
        condition = f"{relation.instant} >= $2 AND {relation.instant} < $3"
        statement = f"SELECT count(*) FROM ({_select(relation)} AND {condition}) AS due"
        async with self._reading(relation) as connection:
            return int(await connection.fetchval(statement, store_code, start, end))

    async def check(self) -> list[Finding]:
        """Return the problems that prevent reading the views; empty if there are none."""
        findings: list[Finding] = []
        for relation in RELATIONS.values():
            async with self._reading(relation) as connection:
                findings += await _check(connection, relation)
        return findings

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=CONNECTIONS,
                    timeout=CONNECT_SECONDS,
                    statement_cache_size=0,  # so that a transaction pooler may be in between
                    server_settings={"application_name": "loyalty-webhooks expiry"},
                )
            return self._pool

    @asynccontextmanager
    async def _reading(self, relation: Relation) -> AsyncIterator[asyncpg.Connection]:
        """A read-only transaction. Raises SourceUnusableError and SourceAwayError."""
        try:
            async with (
                (await self._opened()).acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute(f"SET LOCAL statement_timeout = '{self._statement_timeout}'")
                yield connection
        except _UNUSABLE as error:
            raise SourceUnusableError(
                f"{relation.view} in the database of EXPIRY_DATABASE_URL cannot be read: {error.args[0]}; "
                "`loyalty-webhooks expiry check-source` lists what is missing"
            ) from error
        except asyncpg.QueryCanceledError as error:
            raise SourceUnusableError(
                f"{relation.view} in the database of EXPIRY_DATABASE_URL took longer than "
                "EXPIRY_STATEMENT_TIMEOUT_SECONDS; give the view an index, or raise the setting"
            ) from error
        except asyncpg.ClientConfigurationError:  # a mistake in the address
            raise
        except BROKEN_CONNECTION as error:
            if not is_unavailable(error):
                raise
            raise SourceAwayError(f"database of EXPIRY_DATABASE_URL: {outage_text(error)}") from error


_UNUSABLE = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,  # a comparison between types that have none, such as a text with a uuid
    asyncpg.DatatypeMismatchError,
    asyncpg.InvalidTextRepresentationError,  # an enum without the status asked for
    asyncpg.InsufficientPrivilegeError,
)


def _rows(relation: Relation, records: Sequence[Mapping[str, Any]]) -> list[DueRow]:
    rows = []
    for record in records:
        values = dict(record)
        try:
            row = relation.model.model_validate(values, by_name=True, by_alias=False)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
                for found in error.errors(include_url=False, include_input=False)
            )
            logger.warning(
                "expiry row skipped, %s %s is invalid: %s", relation.view, values[relation.identity], problems
            )
            continue
        rows.append(DueRow(values[relation.identity], values[relation.instant], row.updated_at, row))
    return rows


async def _check(connection: asyncpg.Connection, relation: Relation) -> list[Finding]:
    view = await connection.fetchval("SELECT to_regclass($1)::oid", relation.view)
    if view is None:
        return [Finding(relation.view, None, "there is no such view (or the role may not use its schema); create it")]
    if not await connection.fetchval("SELECT has_table_privilege($1::oid, 'SELECT')", view):
        return [Finding(relation.view, None, f"the role may not read it; GRANT SELECT ON {relation.view}")]
    found = {column["name"]: column for column in await connection.fetch(_COLUMNS, view)}
    findings = []
    for column, wanted in source_columns(relation).items():
        if column not in found:
            findings.append(Finding(relation.view, column, f"is missing; add it as {wanted}, NULL where it is unknown"))
            continue
        type_, is_enum = found[column]["type"], found[column]["is_enum"]
        if type_ not in TYPES[wanted] and not (is_enum and wanted == "text"):
            cast = f"{column} AT TIME ZONE 'the zone it is in'" if wanted == "timestamptz" else f"{column}::{wanted}"
            findings.append(Finding(relation.view, column, f"is {type_}, not {wanted}; write {cast} AS {column}"))
    return findings
