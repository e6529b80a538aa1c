"""What expires, as the platform tells it: rows written one by one or many at a time, and forgotten.

Each call may be repeated: a row older than the one that is there changes nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from api.access import ExpiryWrite
from api.body import Output
from api.expiry.service import ManyRows, OneRow, id_name
from api.ids import id_path, parse_id
from api.resources import FromResources, Resources
from domain.expiry.rows import Kind, Row
from storage.expiry.rows import delete_row, newest, records_of, upsert_records


class RowWritten(Output):
    """`written` is false when what is there is newer, so that nothing changed."""

    written: bool


class RowsWritten(Output):
    """How many rows came, and how many of them were written; the others were older than what is there."""

    rows: int
    written: int


router = APIRouter(prefix="/api/{storeCode}/expiry", tags=["expiry"])

NOUNS = {Kind.POINTS: "transfer of points", Kind.LEVELS: "member's level", Kind.COUPONS: "issued coupon"}


async def _write(resources: Resources, store_code: str, kind: Kind, rows: Sequence[Row]) -> int:
    # In a thread: sealing the codes of a full batch of coupons takes longer than others should wait.
    records = await asyncio.to_thread(records_of, kind, newest(rows), resources.sealer)
    async with resources.database.transaction() as connection:
        return await upsert_records(connection, store_code, kind, records)


def _add_routes(kind: Kind) -> None:
    identity = id_name(kind)
    description = f"Id of the {NOUNS[kind]}."

    @router.put(f"/{kind}/{{{identity}}}", summary=f"Tell of one {NOUNS[kind]}", name=f"put_{kind}")
    async def put(
        access: ExpiryWrite,
        resources: FromResources,
        identifier: Annotated[str, id_path(identity, description)],
        row: Annotated[Row, Depends(OneRow(kind))],
    ) -> RowWritten:
        """The whole row; what is left out is not known. The newer `updatedAt` wins, of equal ones the later call."""
        return RowWritten(written=bool(await _write(resources, access.store_code, kind, [row])))

    @router.post(f"/{kind}/batch", summary=f"Tell of many, each a {NOUNS[kind]}", name=f"batch_{kind}")
    async def batch(
        access: ExpiryWrite, resources: FromResources, rows: Annotated[list[Row], Depends(ManyRows(kind))]
    ) -> RowsWritten:
        """All of them or none, in one transaction. Paths of errors start with the row's index, from 0."""
        return RowsWritten(rows=len(rows), written=await _write(resources, access.store_code, kind, rows))

    @router.delete(
        f"/{kind}/{{{identity}}}", status_code=204, summary=f"Forget one {NOUNS[kind]}", name=f"delete_{kind}"
    )
    async def delete(
        access: ExpiryWrite, resources: FromResources, identifier: Annotated[str, id_path(identity, description)]
    ) -> None:
        """Whether it is there or not; a row told later is taken again, whatever its `updatedAt`."""
        async with resources.database.transaction() as connection:
            await delete_row(connection, access.store_code, kind, parse_id(identifier))


for _kind in Kind:
    _add_routes(_kind)
