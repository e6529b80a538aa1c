"""Query strings of all lists: filters, order, page or cursor.

Grammar: `field=value` or `field[op]=value`, joined by AND; any number of `_orderBy[field]=asc|desc`; `_itemsOnPage`;
either `_page` or `_cursor`. Any other parameter is a 400 with its dotted path. Source: the wire contract, section 1.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Request

from api.errors import Problem, ValidationFailed
from api.ids import is_id
from api.instants import read_instant
from storage.listing import Condition, FieldKind, ListField, Operator, Order

ITEMS_DEFAULT = 10
ITEMS_MOST = 50
CONDITIONS_MOST = 100
"""Maximum number of filters. More than every field with every operator; PostgreSQL evaluates each on every row read."""

PAGE_MOST = 1_000_000_000
"""Maximum page number. Beyond any list, and page × items still fits into PostgreSQL's offset."""

ORDER = "_orderBy"
ITEMS = "_itemsOnPage"
PAGE = "_page"
CURSOR = "_cursor"
CURSOR_FORMAT = "cursor"
"""OpenAPI format of cursors: opaque text that only this API issues."""

_PARAMETER = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_WHOLE = re.compile(r"[0-9]{1,10}")
_SPACED_OFFSET = re.compile(r" (?=\d\d:\d\d$)")
_PRESENCE = frozenset({Operator.HAS_VALUE, Operator.NOT_HAS_VALUE})


@dataclass(frozen=True)
class Listing:
    """Parsed query string of a list. `cursor` is the raw text; the list that issued it decodes it."""

    conditions: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    items: int = ITEMS_DEFAULT
    page: int = 1
    cursor: str | None = None

    @property
    def offset(self) -> int:
        """Number of rows before this page."""
        return (self.page - 1) * self.items


class _Refused(Exception):  # noqa: N818
    """A wrong parameter; its arguments are code and message of the Problem."""


@dataclass(frozen=True, eq=False)
class ListQuery:
    """Dependency that returns the query string as a `Listing` over `fields`. List it after the right."""

    fields: Mapping[str, ListField]
    order: bool = True
    """Accept `_orderBy`."""
    cursor: bool = False
    """Page by `_cursor` instead of `_page`."""
    refuses = (400,)

    async def __call__(self, request: Request) -> Listing:
        """Return the listing. Raises ValidationFailed with all problems."""
        return self.read(request.query_params.multi_items())

    def read(self, parameters: list[tuple[str, str]]) -> Listing:
        """Return the listing for decoded names and values in their order. Raises ValidationFailed."""
        conditions: list[Condition] = []
        orders: dict[str, Order] = {}
        single: dict[str, Any] = {}
        readers = self._single()
        problems: list[Problem] = []
        for name, value in parameters:
            match = _PARAMETER.fullmatch(name)
            base, operator = (name, None) if match is None else match.groups()
            try:
                if base == ORDER and self.order:
                    self._add_order(orders, operator, value)
                elif operator is None and (reader := readers.get(base)):
                    if base in single:
                        raise _Refused("repeated", "is given twice")
                    single[base] = reader(value)
                else:
                    conditions.append(self._condition(base, operator, value))
            except _Refused as refused:
                path = base if operator is None else f"{base}.{operator}"
                problems.append(Problem(path, *refused.args))
        if len(conditions) > CONDITIONS_MOST:
            first = conditions[CONDITIONS_MOST]
            path = first.field if first.operator is Operator.EQ else f"{first.field}.{first.operator}"
            problems.append(Problem(path, "too_many_filters", f"exceeds the maximum of {CONDITIONS_MOST} filters"))
        if problems:
            raise ValidationFailed(problems)
        return Listing(
            tuple(conditions),
            tuple(orders.values()),
            single.get(ITEMS, ITEMS_DEFAULT),
            single.get(PAGE, 1),
            single.get(CURSOR),
        )

    def _single(self) -> dict[str, Callable[[str], Any]]:
        paging: dict[str, Callable[[str], Any]] = {CURSOR: _text} if self.cursor else {PAGE: _up_to(PAGE_MOST)}
        return {ITEMS: _up_to(ITEMS_MOST), **paging}

    def _add_order(self, orders: dict[str, Order], name: str | None, value: str) -> None:
        if name is None or name not in self.fields:
            raise _Refused("unknown_field", f"is not a sortable field; use one of {', '.join(self.fields)}")
        if value not in ("asc", "desc"):
            raise _Refused("invalid_value", "must be asc or desc")
        if name in orders:
            raise _Refused("repeated", "is given twice")
        orders[name] = Order(name, value == "desc")

    def _condition(self, name: str, operator_text: str | None, value: str) -> Condition:
        listed = self.fields.get(name)
        if listed is None:
            raise _Refused("unknown_field", f"is not a parameter of this list; its fields are {', '.join(self.fields)}")
        try:
            operator = Operator.EQ if operator_text is None else Operator(operator_text)
        except ValueError:
            raise _Refused("unknown_operator", f"is not an operator; use one of {', '.join(Operator)}") from None
        if operator in _PRESENCE:
            if value != "true":
                raise _Refused("invalid_value", "must be true; use the opposite operator for the opposite")
            return Condition(name, operator, True)
        if operator is Operator.LIKE:
            return Condition(name, operator, _text(value))
        if operator is Operator.IN:
            return Condition(name, operator, tuple(_value(listed, part) for part in value.split(",")))
        return Condition(name, operator, _value(listed, value))

    def parameters(self) -> Iterator[dict[str, Any]]:
        """Yield the OpenAPI parameter objects of this list."""
        if self.cursor:
            yield _parameter(CURSOR, {"type": "string", "format": CURSOR_FORMAT}, "`nextCursor` of the previous page.")
        else:
            page = {"type": "integer", "minimum": 1, "maximum": PAGE_MOST, "default": 1}
            yield _parameter(PAGE, page, "Page number, from 1.")
        items = {"type": "integer", "minimum": 1, "maximum": ITEMS_MOST, "default": ITEMS_DEFAULT}
        yield _parameter(ITEMS, items, "Items per page.")
        for name, listed in self.fields.items():
            yield _parameter(name, _schema(listed), f"Only where `{name}` equals this value; same as `{name}[eq]`.")
            yield from _operator_parameters(name, listed)
        if self.order:
            for name in self.fields:
                yield _parameter(f"{ORDER}[{name}]", {"enum": ["asc", "desc"]}, f"Order by `{name}`.")


_TEXT_SCHEMA = {"type": "string", "pattern": "^[^\\u0000]*$"}
_SCHEMAS: Mapping[FieldKind, dict[str, Any]] = {
    FieldKind.TEXT: _TEXT_SCHEMA,
    FieldKind.INSTANT: {"type": "string", "format": "date-time"},
    FieldKind.FLAG: {"type": "boolean"},
    FieldKind.ID: {"type": "string", "format": "uuid"},
}
_MEANINGS: Mapping[Operator, str] = {
    Operator.EQ: "Only where `{}` equals this value, case-sensitively.",
    Operator.LIKE: "Only where `{}`, as shown in the response, contains this text, case-insensitively.",
    Operator.GT: "Only where `{}` is greater; texts compare by code point.",
    Operator.GTE: "Only where `{}` is greater or equal.",
    Operator.LT: "Only where `{}` is less.",
    Operator.LTE: "Only where `{}` is less or equal.",
    Operator.IN: "Only where `{}` is one of these values, separated by commas.",
    Operator.HAS_VALUE: "Only where `{}` has a value.",
    Operator.NOT_HAS_VALUE: "Only where `{}` has no value.",
}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _schema(listed: ListField) -> dict[str, Any]:
    return {"type": "string", "enum": list(listed.choices)} if listed.choices else _SCHEMAS[listed.kind]


def _operator_parameters(name: str, listed: ListField) -> Iterator[dict[str, Any]]:
    for operator in Operator:
        schema = _schema(listed)
        if operator in _PRESENCE:
            schema = {"const": True}
        elif operator is Operator.LIKE:
            schema = _TEXT_SCHEMA
        elif operator is Operator.IN:
            schema = {"type": "array", "items": schema, "minItems": 1}
        parameter = _parameter(f"{name}[{operator}]", schema, _MEANINGS[operator].format(name))
        yield {**parameter, "style": "form", "explode": False} if operator is Operator.IN else parameter


def _up_to(most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if _WHOLE.fullmatch(value) is None or not 1 <= int(value) <= most:
            raise _Refused("out_of_range", f"must be a whole number from 1 to {most}")
        return int(value)

    return read


def _text(value: str) -> str:
    if "\x00" in value:
        raise _Refused("invalid_value", "contains U+0000, which is not allowed")
    return value


def _value(listed: ListField, value: str) -> Any:
    match listed.kind:
        case FieldKind.INSTANT:
            try:  # a plus sign that is not percent-encoded, the most common mistake with instants, arrives as a space
                return read_instant(_SPACED_OFFSET.sub("+", value))
            except ValueError as error:
                raise _Refused("invalid_value", str(error)) from None
        case FieldKind.FLAG:
            if value not in ("true", "false"):
                raise _Refused("invalid_value", "must be true or false")
            return value == "true"
        case FieldKind.ID:
            if not is_id(value):
                raise _Refused("invalid_value", "must be a UUID")
            return UUID(value)
        case FieldKind.TEXT:
            if listed.choices and value not in listed.choices:
                raise _Refused("invalid_value", f"must be one of {', '.join(listed.choices)}")
            return _text(value)


@dataclass(frozen=True)
class Parameter:
    """Query parameter of a call that returns no list. `read` raises ValueError with a message for people."""

    read: Callable[[str], Any]
    documented: Mapping[str, Any]
    """Schema and description in the OpenAPI document."""
    code: str = "invalid_value"
    required: bool = False


@dataclass(frozen=True, eq=False)
class ParameterQuery:
    """Dependency that returns the values of the given parameters by name. List it after the right."""

    known: Mapping[str, Parameter]
    refuses = (400,)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Return the values. Raises ValidationFailed with all problems."""
        problems: list[Problem] = []
        given: dict[str, Any] = {}
        for name, text in request.query_params.multi_items():
            if name not in self.known:
                message = f"is not a parameter of this call; use {' or '.join(self.known)}"
                problems.append(Problem(name, "unknown_field", message))
            elif name in given:
                problems.append(Problem(name, "repeated", "is given twice"))
            else:
                try:
                    given[name] = self.known[name].read(text)
                except ValueError as error:
                    problems.append(Problem(name, self.known[name].code, str(error)))
        missing = [name for name, one in self.known.items() if one.required and name not in request.query_params]
        problems += [Problem(name, "missing", "is required") for name in missing]
        if problems:
            raise ValidationFailed(problems)
        return given

    def parameters(self) -> Iterator[dict[str, Any]]:
        """Yield the OpenAPI parameter objects."""
        for name, one in self.known.items():
            yield {"name": name, "in": "query", "required": one.required, **one.documented}
