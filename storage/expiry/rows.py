"""Expiry rows: whole rows are written, the newer `updated_at` wins, and read back as domain objects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.rows import IssuedCouponRow, Kind, MemberLevelRow, PointTransferRow, Row
from storage.expiry.tables import COUPON_EXPIRES, LEVEL_EXPIRES, TRANSFER_EXPIRES
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


_MEMBER = {
    "customer_email": "text",
    "customer_phone": "text",
    "customer_loyalty_card_number": "text",
    "customer_first_name": "text",
    "customer_last_name": "text",
    "updated_at": "timestamptz",
}

RELATIONS: Mapping[Kind, Relation] = MappingProxyType(
    {
        Kind.POINTS: Relation(
            kind=Kind.POINTS,
            table="point_transfer",
            view="expiry_point_transfer",
            identity="transfer_id",
            instant="expires_at",
            expires=TRANSFER_EXPIRES,
            model=PointTransferRow,
            columns={
                "transfer_id": "uuid",
                "customer_id": "uuid",
                "account_id": "uuid",
                "wallet_code": "text",
                "points": "numeric",
                "remaining_points": "numeric",
                "type": "text",
                "status": "text",
                "expires_at": "timestamptz",
                **_MEMBER,
            },
        ),
        Kind.LEVELS: Relation(
            kind=Kind.LEVELS,
            table="member_level",
            view="expiry_member_level",
            identity="customer_id",
            instant="recalculate_at",
            expires=LEVEL_EXPIRES,
            model=MemberLevelRow,
            columns={
                "customer_id": "uuid",
                "level_id": "uuid",
                "level_name": "text",
                "future_level_id": "uuid",
                "future_level_name": "text",
                "recalculate_at": "timestamptz",
                **_MEMBER,
            },
        ),
        Kind.COUPONS: Relation(
            kind=Kind.COUPONS,
            table="issued_coupon",
            view="expiry_issued_coupon",
            identity="issued_coupon_id",
            instant="active_to",
            expires=COUPON_EXPIRES,
            model=IssuedCouponRow,
            columns={
                "issued_coupon_id": "uuid",
                "customer_id": "uuid",
                "reward_id": "uuid",
                SEALED: "bytea",
                "status": "text",
                "used": "boolean",
                "active_to": "timestamptz",
                **_MEMBER,
            },
        ),
    }
)


def identity_of(row: Row) -> UUID:
    """Return the id of the transfer, of the level's member, or of the issued coupon."""
    match row:
        case PointTransferRow():
            return row.transfer_id
        case MemberLevelRow():
            return row.customer_id
        case IssuedCouponRow():
            return row.issued_coupon_id


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


def row_of(relation: Relation, values: Mapping[str, Any], unseal: Callable[[bytes], str]) -> Row:
    """Return the row stored as these columns, without validation; raises SealBrokenError."""
    fields = {column: values[column] for column in relation.columns if column != SEALED}
    if SEALED in relation.columns:
        sealed = values[SEALED]
        fields["code"] = None if sealed is None else unseal(sealed)
    return relation.model.model_construct(**fields)


def stored_imported_at(relation: Relation) -> str:
    """Return SQL of `imported_at` for an `ON CONFLICT … DO UPDATE` of a table with the alias `stored`.

    The value stays while the row still expires at the same instant; otherwise it becomes now.
    """
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
    return f"unnest({arrays}) AS told ({', '.join(relation.columns)})"


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
    """Write records of `records_of`, one per object; return how many were written. Older ones than stored are
    skipped."""
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
    """Return the row of a SELECT of `due_columns`; raises SealBrokenError."""
    return DueRow(
        identity=values[relation.identity],
        instant=values[relation.instant],
        imported_at=values["imported_at"],
        row=row_of(relation, values, unseal),
    )


def due_columns(relation: Relation) -> str:
    """Return the columns that a SELECT for `due_row` names."""
    return ", ".join([*relation.columns, "imported_at"])
