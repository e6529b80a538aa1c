"""Expiry rows in request bodies: one row in a wrapper with its id in the path, or many rows with their ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, cast

from fastapi import Request
from pydantic import Field, create_model
from pydantic.alias_generators import to_camel

from api.body import SMALL_BODY_BYTES, DocumentedBody, parse_body, read_body, validate
from api.errors import Conflict, Problem, ValidationFailed, invalid
from api.events.batch import Batch, DocumentedBatch, is_ndjson
from api.ids import parse_id
from domain.events.fields import ABSENT
from domain.expiry.rows import Id, Kind, Row
from storage.expiry.rows import RELATIONS

BATCH_BYTES = 8 * 1024 * 1024
"""Maximum body of a batch, by the wire contract."""

BATCH = Batch(most=5_000, most_bytes=SMALL_BODY_BYTES, noun="row")
"""Maximum rows of a batch, by the wire contract: one transaction of some 100 ms."""

WRAPPERS: Mapping[Kind, str] = MappingProxyType(
    {Kind.POINTS: "pointTransfer", Kind.LEVELS: "memberLevel", Kind.COUPONS: "issuedCoupon"}
)


def id_name(kind: Kind) -> str:
    """Return the name of a row's id on the wire and in paths."""
    return to_camel(RELATIONS[kind].identity)


def model_of_path(kind: Kind) -> type[Row]:
    """Return the model that documents a row whose id is in the path."""
    relation = RELATIONS[kind]
    base: Any = relation.model
    described = Annotated[Id, Field(description="The id in the path; may be omitted.")]
    fields: dict[str, Any] = {relation.identity: (described, ABSENT)}
    model = create_model(f"{base.__name__}OfPath", __base__=base, __doc__=base.__doc__, **fields)
    return cast(type[Row], model)


@dataclass(frozen=True, eq=False)
class OneRow(DocumentedBody[Row]):
    """Dependency that returns the body as one row. An id in the body must equal the id in the path."""

    kind: Kind = field(kw_only=True)
    refuses = (400, 409, 413)

    async def __call__(self, request: Request) -> Row:
        """Return the row. Raises NotFound for an invalid id in the path, Conflict for another id in the body,
        ValidationFailed or TooLarge.
        """
        name = id_name(self.kind)
        identity = parse_id(request.path_params[name])
        value = parse_body(await read_body(request, SMALL_BODY_BYTES), self.wrapper)
        if isinstance(value, dict):
            value = {name: str(identity), **value}
        row: Row = validate(RELATIONS[self.kind].model, value)
        if getattr(row, RELATIONS[self.kind].identity) != identity:
            # RFC 9110, 9.3.4 suggests 409 for a PUT whose content contradicts the target.
            raise Conflict(f"{name} must equal the id in the path, or be omitted.", [name])
        return row


@dataclass(frozen=True, eq=False)
class ManyRows(DocumentedBatch[Row]):
    """Dependency that returns the body as rows, from a JSON array or from NDJSON."""

    async def __call__(self, request: Request) -> list[Row]:
        """Return the rows. Raises ValidationFailed with paths below the index (from 0), or TooLarge."""
        raw = await read_body(request, BATCH_BYTES)
        problems: list[Problem] = []
        rows: list[Row] = []
        async for index, value in BATCH.objects(raw, lines=is_ndjson(request), problems=problems):
            try:
                rows.append(validate(self.model, value, str(index)))
            except ValidationFailed as refusal:
                problems += refusal.problems
        if problems:
            raise ValidationFailed(problems)
        if not rows:
            raise invalid("", "empty", "contains no row")
        return rows
