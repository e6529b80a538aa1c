"""Expiry rows: whole rows are written, the newer `updated_at` wins, and read back as domain objects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.rows import IssuedCouponRow, Kind, MemberLevelRow, PointTransferRow, Row
from storage.expiry.tables import (
    COUPON_EXPIRES,
    LEVEL_EXPIRES,
    TRANSFER_EXPIRES,
    IssuedCoupon,
    MemberColumns,
    MemberLevel,
    PointTransfer,
)
from storage.mapping import table_of
from storage.sealing import Sealer

SEALED = "sealed_code"
"""The only column that is stored encrypted: a coupon's code."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Table and view of the rows of a kind.

    `columns`: PostgreSQL type of each column except `store_code` and `imported_at`. `view`: name of the view in the
    platform's database (`storage/expiry/source.py`), which has the same columns, but `code` instead of `sealed_code`.
    `expires`: condition of the index of due rows.
    """

    kind: Kind
    table: str
    view: str
    identity: str
    instant: str
    expires: str
    model: type[Row]
    columns: Mapping[str, str]


def _relation(kind: Kind, stored: type[MemberColumns], instant: str, expires: str, model: type[Row]) -> Relation:
    table = table_of(stored)
    _, identity = table.primary_key.columns.keys()
    own = [name for name in stored.model_fields if name not in (*MemberColumns.model_fields, "store_code")]
    shared = [name for name in MemberColumns.model_fields if name != "imported_at"]
    types = {name: str(table.columns[name].type.compile(_POSTGRESQL)).lower() for name in (*own, *shared)}
    columns = {name: _SHORT_TYPES.get(type_, type_) for name, type_ in types.items()}
    return Relation(kind, table.name, f"expiry_{table.name}", identity, instant, expires, model, columns)


_POSTGRESQL: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
_SHORT_TYPES = {"timestamp with time zone": "timestamptz"}

RELATIONS: Mapping[Kind, Relation] = MappingProxyType(
    {
        Kind.POINTS: _relation(Kind.POINTS, PointTransfer, "expires_at", TRANSFER_EXPIRES, PointTransferRow),
        Kind.LEVELS: _relation(Kind.LEVELS, MemberLevel, "recalculate_at", LEVEL_EXPIRES, MemberLevelRow),
        Kind.COUPONS: _relation(Kind.COUPONS, IssuedCoupon, "active_to", COUPON_EXPIRES, IssuedCouponRow),
    }
)


def identity_of(row: Row) -> UUID:
    """Return the id of the transfer, of the level's member, or of the issued coupon."""
    if isinstance(row, PointTransferRow):
        return row.transfer_id
    return row.customer_id if isinstance(row, MemberLevelRow) else row.issued_coupon_id


def newest(rows: Sequence[Row]) -> list[Row]:
    """Return one row per object: the row with the newest `updated_at`, the last of equal ones."""
    newest_rows: dict[UUID, Row] = {}
    for row in rows:
        before = newest_rows.get(identity_of(row))
        if before is None or before.updated_at <= row.updated_at:
            newest_rows[identity_of(row)] = row
    return list(newest_rows.values())


def records_of(kind: Kind, rows: Iterable[Row], sealer: Sealer) -> list[tuple[Any, ...]]:
    """Return the values of each row in the order of the relation's columns. Encryption takes some 30 µs per coupon."""
    columns = tuple(RELATIONS[kind].columns)
    return [
        tuple(_sealed(row, sealer) if column == SEALED else getattr(row, column) for column in columns) for row in rows
    ]


def _sealed(row: Row, sealer: Sealer) -> bytes | None:
    return sealer.seal(row.code) if isinstance(row, IssuedCouponRow) and row.code is not None else None


def stored_imported_at(relation: Relation) -> str:
    """Return SQL of `imported_at` for an `ON CONFLICT … DO UPDATE` of a table with the alias `stored`. The value stays
    while the row still expires at the same instant; otherwise it becomes now."""
    return f"""CASE
        WHEN stored.{relation.instant} IS NOT DISTINCT FROM excluded.{relation.instant}
            AND (SELECT {relation.expires} FROM (SELECT stored.*) AS before) THEN stored.imported_at
        ELSE clock_timestamp() END"""


def upsert(relation: Relation, source: str) -> str:
    """Return SQL that writes whole rows of `source`, an expression or table with the relation's columns, one per
    object.

    The newer row wins; of equal ones, the one written later. Rows are locked in the order of ids, so that two writers
    do not deadlock.
    """
    columns = ", ".join(relation.columns)
    changes = ", ".join(f"{column} = excluded.{column}" for column in relation.columns if column != relation.identity)
    return f"""
        INSERT INTO {relation.table} AS stored (store_code, {columns})
        SELECT CAST(:store_code AS text), {columns} FROM {source} ORDER BY {relation.identity}
        ON CONFLICT (store_code, {relation.identity}) DO UPDATE
        SET {changes}, imported_at = {stored_imported_at(relation)}
        WHERE stored.updated_at <= excluded.updated_at
    """


def _from_arrays(relation: Relation) -> str:
    arrays = ", ".join(f"CAST(:{column} AS {type_}[])" for column, type_ in relation.columns.items())
    return f"unnest({arrays}) AS given ({', '.join(relation.columns)})"


_UPSERTS: Mapping[Kind, TextClause] = {
    kind: text(upsert(relation, _from_arrays(relation))) for kind, relation in RELATIONS.items()
}
_DELETES: Mapping[Kind, TextClause] = {
    kind: text(f"DELETE FROM {relation.table} WHERE store_code = :store_code AND {relation.identity} = :identity")
    for kind, relation in RELATIONS.items()
}


async def upsert_records(
    connection: AsyncConnection, store_code: str, kind: Kind, records: Sequence[tuple[Any, ...]]
) -> int:
    """Write records of `records_of`, one per object, unless the stored row is newer; return how many were written."""
    if not records:
        return 0
    columns: dict[str, Any] = {
        column: list(values) for column, values in zip(RELATIONS[kind].columns, zip(*records, strict=True), strict=True)
    }
    result = await connection.execute(_UPSERTS[kind], {"store_code": store_code, **columns})
    return result.rowcount


async def delete_row(connection: AsyncConnection, store_code: str, kind: Kind, identity: UUID) -> bool:
    """Delete a row; return False if there was none."""
    result = await connection.execute(_DELETES[kind], {"store_code": store_code, "identity": identity})
    return result.rowcount > 0


@dataclass(frozen=True, slots=True)
class DueRow:
    """A row that expires at `instant`. `imported_at`: instant since which it does so, as far as known."""

    identity: UUID
    instant: datetime
    imported_at: datetime
    row: Row


def due_row(relation: Relation, values: Mapping[str, Any], unseal: Callable[[bytes], str]) -> DueRow:
    """Return the row of a SELECT of `due_columns`, without validation; raises SealBrokenError."""
    fields = {column: values[column] for column in relation.columns if column != SEALED}
    if SEALED in relation.columns:
        sealed = values[SEALED]
        fields["code"] = None if sealed is None else unseal(sealed)
    row = relation.model.model_construct(**fields)
    return DueRow(values[relation.identity], values[relation.instant], values["imported_at"], row)


def due_columns(relation: Relation) -> str:
    """Return the columns that a SELECT for `due_row` names."""
    return ", ".join([*relation.columns, "imported_at"])
