"""Bulk import of expiry rows from a file: COPY, the usual upsert and the progress in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.rows import Kind
from storage.expiry.rows import RELATIONS, upsert


@dataclass(frozen=True, slots=True)
class ImportKey:
    """Identity of an import: a file for a store. The file is identified by its digest, so a changed file is another."""

    store_code: str
    kind: Kind
    file_sha256: bytes


@dataclass(frozen=True, slots=True)
class ImportState:
    """Progress of an import: everything before `position_bytes` is stored or rejected."""

    position_bytes: int = 0
    position_line: int = 0
    rows: int = 0
    written: int = 0
    """Rows written; the others were older than the stored ones, or duplicates."""
    rejected: int = 0
    rejects_bytes: int = 0
    """Length of the rejects file at that position."""
    finished_at: datetime | None = None


class ImportedElsewhereError(Exception):
    """The same file is being imported by another process."""


_KEY = "store_code = :store_code AND kind = :kind AND file_sha256 = :file_sha256"
_STATE = "position_bytes, position_line, rows, written, rejected, rejects_bytes, finished_at"
_BEGIN = text("""
INSERT INTO expiry_import
    (store_code, kind, file_sha256, position_bytes, position_line, rows, written, rejected, rejects_bytes)
VALUES (:store_code, :kind, :file_sha256, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING
""")
_RESTART = text(f"""
UPDATE expiry_import SET position_bytes = 0, position_line = 0, rows = 0, written = 0, rejected = 0,
    rejects_bytes = 0, started_at = clock_timestamp(), finished_at = NULL
WHERE {_KEY}
""")
_READ = text(f"SELECT {_STATE} FROM expiry_import WHERE {_KEY}")
_ADVANCE = text(f"""
UPDATE expiry_import SET position_bytes = :position_bytes, position_line = :position_line, rows = :rows,
    written = :written, rejected = :rejected, rejects_bytes = :rejects_bytes
WHERE {_KEY} AND position_bytes = :before AND finished_at IS NULL
""")
_FINISH = text(f"UPDATE expiry_import SET finished_at = clock_timestamp() WHERE {_KEY} AND position_bytes = :before")


def _parameters(key: ImportKey) -> dict[str, Any]:
    return {"store_code": key.store_code, "kind": key.kind, "file_sha256": key.file_sha256}


async def begin_import(connection: AsyncConnection, key: ImportKey, *, again: bool) -> ImportState:
    """Return the progress at which to continue: the beginning, unless the file was begun before.

    `again`: start from the beginning anyway.
    """
    await connection.execute(_BEGIN, _parameters(key))
    if again:
        await connection.execute(_RESTART, _parameters(key))
    return ImportState(**(await connection.execute(_READ, _parameters(key))).one()._asdict())


async def advance_import(connection: AsyncConnection, key: ImportKey, before: ImportState, after: ImportState) -> None:
    """Store the progress, in the transaction of the rows. Raises ImportedElsewhereError."""
    values = {
        "before": before.position_bytes,
        "position_bytes": after.position_bytes,
        "position_line": after.position_line,
        "rows": after.rows,
        "written": after.written,
        "rejected": after.rejected,
        "rejects_bytes": after.rejects_bytes,
    }
    if (await connection.execute(_ADVANCE, {**_parameters(key), **values})).rowcount == 0:
        raise ImportedElsewhereError


async def finish_import(connection: AsyncConnection, key: ImportKey, state: ImportState) -> None:
    """Mark the import as finished. Raises ImportedElsewhereError."""
    values = {**_parameters(key), "before": state.position_bytes}
    if (await connection.execute(_FINISH, values)).rowcount == 0:
        raise ImportedElsewhereError


async def copy_records(
    connection: AsyncConnection, store_code: str, kind: Kind, records: Sequence[tuple[Any, ...]]
) -> int:
    """Write records of `records_of`, one per object, by COPY; return how many were written. Older ones are skipped."""
    relation = RELATIONS[kind]
    incoming = f"incoming_{relation.table}"
    columns = ", ".join(f"{column} {type_}" for column, type_ in relation.columns.items())
    # This statement also begins the transaction, so that the driver's COPY below the adapter is part of it.
    await connection.execute(text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ({columns}) ON COMMIT DELETE ROWS"))
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("the connection to the database is gone")
    await driver.copy_records_to_table(incoming, records=records, columns=list(relation.columns))
    result = await connection.execute(text(upsert(relation, incoming)), {"store_code": store_code})
    return result.rowcount
