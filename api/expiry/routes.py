"""Routes with which the platform writes and deletes expiry rows, one or many at a time.

Each call may be repeated: a row older than the stored one changes nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from api.access import ExpiryWrite
from api.body import Output
from api.expiry.service import BATCH, WRAPPERS, ManyRows, OneRow, id_name, model_of_path
from api.ids import id_path, parse_id
from api.resources import FromResources, Resources
from domain.expiry.rows import Kind, Row
from storage.expiry.rows import RELATIONS, delete_row, newest, records_of, upsert_records


class RowWritten(Output):
    """Result of writing one row. `written` is false if the stored row is newer, so that nothing changed."""

    written: bool


class RowsWritten(Output):
    """Number of rows received and written. The other rows were older than the stored ones."""

    rows: int
    written: int


router = APIRouter(prefix="/api/{storeCode}/expiry", tags=["expiry"])

NOUNS = {Kind.POINTS: "transfer of points", Kind.LEVELS: "member's level", Kind.COUPONS: "issued coupon"}


async def _write(resources: Resources, store_code: str, kind: Kind, rows: Sequence[Row]) -> int:
    # In a thread: encrypting the codes of a full batch of coupons would block the event loop for too long.
    records = await asyncio.to_thread(records_of, kind, newest(rows), resources.sealer)
    return await resources.database.run(upsert_records, store_code, kind, records)


def _add_routes(kind: Kind) -> None:
    identity = id_name(kind)
    identifier_path = id_path(identity, f"Id of the {NOUNS[kind]}.")
    one = OneRow(model_of_path(kind), WRAPPERS[kind], kind=kind)
    many = ManyRows(RELATIONS[kind].model, noun="row", most=BATCH.most)

    @router.put(f"/{kind}/{{{identity}}}", summary=f"Write one {NOUNS[kind]}", name=f"put_{kind}")
    async def put(
        access: ExpiryWrite,
        resources: FromResources,
        identifier: Annotated[str, identifier_path],
        row: Annotated[Row, Depends(one)],
    ) -> RowWritten:
        """Write a whole row; omitted fields become unknown. The newer `updatedAt` wins; if equal, the later call."""
        return RowWritten(written=bool(await _write(resources, access.store_code, kind, [row])))

    @router.post(f"/{kind}/batch", summary=f"Write many rows, each one {NOUNS[kind]}", name=f"batch_{kind}")
    async def batch(
        access: ExpiryWrite, resources: FromResources, rows: Annotated[list[Row], Depends(many)]
    ) -> RowsWritten:
        """Write all rows or none, in one transaction. Paths of errors start with the row's index, from 0."""
        return RowsWritten(rows=len(rows), written=await _write(resources, access.store_code, kind, rows))

    @router.delete(
        f"/{kind}/{{{identity}}}", status_code=204, summary=f"Delete one {NOUNS[kind]}", name=f"delete_{kind}"
    )
    async def delete(
        access: ExpiryWrite, resources: FromResources, identifier: Annotated[str, identifier_path]
    ) -> None:
        """Delete the row if it exists. A row written later is stored again, whatever its `updatedAt`."""
        await resources.database.run(delete_row, access.store_code, kind, parse_id(identifier))


for _kind in Kind:
    _add_routes(_kind)
