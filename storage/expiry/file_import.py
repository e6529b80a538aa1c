"""Bulk import of expiry rows from a file: COPY, the usual upsert and the progress in one transaction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Update, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.expiry.rows import Kind
from storage.expiry.rows import RELATIONS, upsert
from storage.expiry.tables import ExpiryImport
from storage.mapping import columns_for


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


async def begin_import(connection: AsyncConnection, key: ImportKey, *, again: bool) -> ImportState:
    """Return the progress at which to continue: the beginning, unless the file was begun before. `again`: start from
    the beginning anyway."""
    beginning = asdict(ImportState())
    await connection.execute(insert(ExpiryImport).values(**asdict(key), **beginning).on_conflict_do_nothing())
    if again:
        restart = update(ExpiryImport).filter_by(**asdict(key))
        await connection.execute(restart.values(started_at=func.clock_timestamp(), **beginning))
    state = select(*columns_for(ExpiryImport, ImportState)).filter_by(**asdict(key))
    return ImportState(**(await connection.execute(state)).one()._asdict())


async def advance_import(connection: AsyncConnection, key: ImportKey, before: ImportState, after: ImportState) -> None:
    """Store the progress, in the transaction of the rows. Raises ImportedElsewhereError."""
    unfinished = _at(key, before).where(col(ExpiryImport.finished_at).is_(None))
    if (await connection.execute(unfinished.values(asdict(after)))).rowcount == 0:
        raise ImportedElsewhereError


async def finish_import(connection: AsyncConnection, key: ImportKey, state: ImportState) -> None:
    """Mark the import as finished. Raises ImportedElsewhereError."""
    if (await connection.execute(_at(key, state).values(finished_at=func.clock_timestamp()))).rowcount == 0:
        raise ImportedElsewhereError


def _at(key: ImportKey, state: ImportState) -> Update:
    """Return an update of the import if it still has this position."""
    return update(ExpiryImport).filter_by(**asdict(key), position_bytes=state.position_bytes)


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
        raise RuntimeError("the connection to the database was closed")
    await driver.copy_records_to_table(incoming, records=records, columns=list(relation.columns))
    result = await connection.execute(text(upsert(relation, incoming)), {"store_code": store_code})
    return result.rowcount
