"""Updates of expiry rows from events, in the transaction that matches them, so that each event is applied once.

Rows that the platform sends are the better source. An event fills in unknown values, and changes known ones only if it
is not older. It never moves a row's `updated_at` beyond the event, and for levels not at all, so that the platform's
row of the same change is never rejected as older.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.expiry.from_events import NAMED_ONLY, CouponTold, LevelTold, Told, TransferTold, kind_told, told_by
from domain.expiry.rows import Kind
from domain.wire.jsontext import parse
from storage.deliveries.matching import MatchedEvent
from storage.expiry.rows import RELATIONS, stored_imported_at
from storage.sealing import SealBrokenError, Sealer
from storage.unavailable import in_words

logger = logging.getLogger(__name__)

NEVER_STORABLE = ("22", "23")
"""SQLSTATE classes of data that can never be stored. Any other error fails the transaction."""


_MEMBER = ("customer_email", "customer_phone", "customer_loyalty_card_number")
_NAMED_MEMBER = (*_MEMBER, "customer_first_name", "customer_last_name")
_OTHER_TYPES = {"store_code": "text", "imported_at": "timestamptz", "told_at": "timestamptz", "whole": "boolean"}


def _told(kind: Kind, columns: Sequence[str]) -> str:
    types = {**RELATIONS[kind].columns, **_OTHER_TYPES}
    arrays = ", ".join(f"CAST(:{column} AS {types[column]}[])" for column in columns)
    return f"told AS MATERIALIZED (SELECT * FROM unnest({arrays}) AS told ({', '.join(columns)}))"


_TRANSFER_FACTS = ("customer_id", "account_id", "wallet_code", "points", "type", "status", "expires_at")
_TRANSFER_COLUMNS = ("store_code", "transfer_id", *_TRANSFER_FACTS, *_MEMBER, "updated_at")

# A transfer that was added has the instant of that as `updated_at`. One that only became available has NAMED_ONLY, and
# the instant of that in `imported_at`, which has no meaning yet for a row that cannot expire.
_ADDED = f"excluded.updated_at > timestamptz '{NAMED_ONLY.isoformat()}'"
_TRANSFERS = text(f"""
WITH {_told(Kind.POINTS, (*_TRANSFER_COLUMNS, "imported_at"))}
INSERT INTO point_transfer AS stored ({", ".join(_TRANSFER_COLUMNS)}, imported_at)
SELECT {", ".join(_TRANSFER_COLUMNS)}, coalesce(imported_at, clock_timestamp())
FROM told ORDER BY store_code, transfer_id
ON CONFLICT (store_code, transfer_id) DO UPDATE SET
    {
    ", ".join(
        f"{column} = CASE WHEN {_ADDED} THEN excluded.{column} ELSE stored.{column} END"
        for column in ("customer_id", "points", "type", "expires_at", "updated_at")
    )
},
    {
    ", ".join(
        f"{column} = CASE WHEN {_ADDED} THEN coalesce(excluded.{column}, stored.{column}) "
        f"ELSE coalesce(stored.{column}, excluded.{column}) END"
        for column in ("account_id", "wallet_code", *_MEMBER)
    )
},
    status = CASE
        WHEN {_ADDED} AND excluded.status = 'blocked' THEN stored.status
        WHEN {_ADDED} THEN excluded.status
        WHEN stored.status = 'blocked' AND stored.updated_at <= excluded.imported_at THEN 'active'
        ELSE stored.status END,
    imported_at = CASE WHEN {_ADDED} THEN {stored_imported_at(RELATIONS[Kind.POINTS])}
        WHEN stored.status = 'blocked' THEN clock_timestamp() ELSE stored.imported_at END
WHERE CASE WHEN {_ADDED} THEN stored.updated_at < excluded.updated_at
    ELSE stored.account_id IS NULL OR stored.status = 'blocked' END
""")

_LEVELS = text(f"""
WITH {_told(Kind.LEVELS, ("store_code", "customer_id", "level_id", "level_name", "told_at"))}, locked AS MATERIALIZED (
    SELECT member_level.store_code, member_level.customer_id
    FROM member_level JOIN told USING (store_code, customer_id)
    ORDER BY store_code, customer_id FOR UPDATE OF member_level
)
UPDATE member_level AS stored SET level_id = told.level_id, level_name = told.level_name,
    future_level_id = NULL, future_level_name = NULL, recalculate_at = NULL
FROM told JOIN locked USING (store_code, customer_id)
WHERE stored.store_code = told.store_code AND stored.customer_id = told.customer_id
    AND stored.updated_at <= told.told_at AND stored.level_id IS DISTINCT FROM told.level_id
""")

_COUPON_FACTS = ("customer_id", "reward_id", "status", "used", "active_to")
_COUPON_COLUMNS = ("store_code", "issued_coupon_id", *_COUPON_FACTS, "sealed_code", *_NAMED_MEMBER, "updated_at")
_COUPONS = text(f"""
WITH {_told(Kind.COUPONS, (*_COUPON_COLUMNS, "whole"))}
INSERT INTO issued_coupon AS stored ({", ".join(_COUPON_COLUMNS)})
SELECT {", ".join(_COUPON_COLUMNS)} FROM told
WHERE whole OR EXISTS (
    SELECT FROM issued_coupon AS known
    WHERE known.store_code = told.store_code AND known.issued_coupon_id = told.issued_coupon_id
)
ORDER BY store_code, issued_coupon_id
ON CONFLICT (store_code, issued_coupon_id) DO UPDATE SET
    {
    ", ".join(
        f"{column} = coalesce(excluded.{column}, stored.{column})"
        for column in ("reward_id", "sealed_code", "active_to", *_NAMED_MEMBER)
    )
},
    status = CASE excluded.status WHEN 'active' THEN stored.status ELSE excluded.status END,
    used = stored.used OR excluded.used,
    updated_at = excluded.updated_at,
    imported_at = CASE WHEN excluded.active_to IS NULL THEN stored.imported_at
        ELSE {stored_imported_at(RELATIONS[Kind.COUPONS])} END
WHERE stored.updated_at <= excluded.updated_at
""")

_STATEMENTS: Mapping[Kind, TextClause] = MappingProxyType(
    {Kind.POINTS: _TRANSFERS, Kind.LEVELS: _LEVELS, Kind.COUPONS: _COUPONS}
)


class ExpiryFromEvents:
    """Update of expiry rows from events, for stores with `expiry_kinds_from_events`."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def apply(self, connection: AsyncConnection, taken: Sequence[MatchedEvent]) -> None:
        """Apply events in the order of their acceptance. Rows are locked kind by kind, in the order of ids. Data that
        can never be stored is skipped and logged, so that no delivery waits for it."""
        telling: dict[Kind, list[tuple[str, Told]]] = defaultdict(list)
        tellers = [
            (kind, event)
            for event in taken
            if (kind := kind_told(event.name)) is not None and kind in event.expiry_kinds_from_events
        ]
        for kind, event in sorted(tellers, key=lambda teller: teller[1].sequence):
            told = told_by(event.name, parse(self._whole_data(event).encode()), event.created_at)
            if told is not None:
                telling[kind].append((event.store_code, told))
        for kind in Kind:
            for layer in _layers(telling[kind]):
                await self._write(connection, kind, layer)

    def _whole_data(self, event: MatchedEvent) -> str:
        if event.sealed_data is None:
            return event.data
        try:
            return self._sealer.open(event.sealed_data)
        except SealBrokenError as error:
            logger.error("coupon code not decrypted (check ENCRYPTION_KEYS), expiry row updated without it: %s", error)
            return event.data

    async def _write(self, connection: AsyncConnection, kind: Kind, layer: Sequence[tuple[str, Told]]) -> None:
        rows = [self._values(store_code, told) for store_code, told in layer]
        columns = {column: [row[column] for row in rows] for column in rows[0]}
        try:
            async with connection.begin_nested():
                await connection.execute(_STATEMENTS[kind], columns)
        except DBAPIError as error:
            if not str(getattr(error.orig, "sqlstate", "")).startswith(NEVER_STORABLE):
                raise
            logger.error(
                "expiry rows of %s not updated: data of %d events cannot be stored (%s); the events are delivered",
                *(kind, len(rows), in_words(error)),
            )

    def _values(self, store_code: str, told: Told) -> dict[str, Any]:
        match told:
            case TransferTold():
                return {
                    **_values_of(told, _TRANSFER_FACTS),
                    **_values_of(told.member, _MEMBER, prefix="customer_"),
                    "store_code": store_code,
                    "transfer_id": told.identity,
                    "updated_at": told.added_at or NAMED_ONLY,
                    "imported_at": told.told_at if told.added_at is None else None,
                }
            case LevelTold():
                level = {"level_id": told.level_id, "level_name": told.level_name, "told_at": told.told_at}
                return {"store_code": store_code, "customer_id": told.identity, **level}
            case CouponTold():
                return {
                    **_values_of(told, _COUPON_FACTS),
                    **_values_of(told.member, _NAMED_MEMBER, prefix="customer_"),
                    "store_code": store_code,
                    "issued_coupon_id": told.identity,
                    "sealed_code": None if told.code is None else self._sealer.seal(told.code),
                    "updated_at": told.told_at,
                    "whole": told.whole,
                }


def _values_of(source: object, columns: Iterable[str], prefix: str = "") -> dict[str, Any]:
    """Return the value of each column from the attribute of its name without the prefix."""
    return {column: getattr(source, column.removeprefix(prefix)) for column in columns}


def _layers(telling: Iterable[tuple[str, Told]]) -> Iterator[list[tuple[str, Told]]]:
    """Split changes into groups to be written one after the other, each with at most one change per object. There is
    nearly always one group."""
    depth: Counter[tuple[str, Any]] = Counter()
    layers: list[list[tuple[str, Told]]] = []
    for store_code, told in telling:
        key = store_code, told.identity
        if depth[key] == len(layers):
            layers.append([])
        layers[depth[key]].append((store_code, told))
        depth[key] += 1
    yield from layers
