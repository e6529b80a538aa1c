"""Filters and orders of lists, as SQL. `api/listing.py` parses them from query strings.

A field compares by its text, instant, flag or id; a field without a value (null) matches nothing but `notHasValue`.
Texts are ordered by code point and searched without regard to case, independent of the database's locale.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, func, literal

CODE_POINTS = "C"
UNICODE_CASES = "pg_c_utf8"  # built into PostgreSQL since 17; upper and lower case of all of Unicode


class FieldKind(StrEnum):
    """Type of a field's values."""

    TEXT = "text"
    INSTANT = "instant"
    FLAG = "flag"
    ID = "id"


class Operator(StrEnum):
    """Comparison of a field with a filter's value."""

    EQ = "eq"
    LIKE = "like"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    HAS_VALUE = "hasValue"
    NOT_HAS_VALUE = "notHasValue"


@dataclass(frozen=True, eq=False)
class ListField:
    """A field for filters and orders. `choices`: its possible texts, where they are few."""

    expression: ColumnElement[Any]
    kind: FieldKind
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """One filter. `value` is a str, datetime, bool or UUID, depending on the field's kind; always a str for `like`, a
    tuple of values for `in`, True for `hasValue` and `notHasValue`."""

    field: str
    operator: Operator
    value: Any


@dataclass(frozen=True)
class Order:
    """One key of the order. Rows without a value come last, ascending or descending."""

    field: str
    descending: bool


_COMPARISONS: Mapping[Operator, Callable[[Any, Any], Any]] = {
    Operator.GT: gt,
    Operator.GTE: ge,
    Operator.LT: lt,
    Operator.LTE: le,
}


def condition_sql(fields: Mapping[str, ListField], condition: Condition) -> ColumnElement[bool]:
    """Return the condition as SQL that is true, false or null."""
    field, value = fields[condition.field], condition.value
    match condition.operator:
        case Operator.EQ:
            equal: ColumnElement[bool] = field.expression == literal(value, field.expression.type)
            return equal
        case Operator.IN:
            return field.expression.in_(value)
        case Operator.LIKE:
            return func.strpos(_lower(_text(field)), _lower(literal(value, Text))) > 0
        case Operator.HAS_VALUE:
            return field.expression.is_not(None)
        case Operator.NOT_HAS_VALUE:
            return field.expression.is_(None)
    compared: ColumnElement[bool] = _COMPARISONS[condition.operator](
        _comparable(field), literal(value, field.expression.type)
    )
    return compared


def order_sql(fields: Mapping[str, ListField], orders: Iterable[Order]) -> list[ColumnElement[Any]]:
    """Return the keys for ORDER BY; the caller appends the id, so that ties have an order too."""
    return [
        (
            _comparable(fields[order.field]).desc() if order.descending else _comparable(fields[order.field]).asc()
        ).nulls_last()
        for order in orders
    ]


def filtered(query: Select[Any], fields: Mapping[str, ListField], conditions: Iterable[Condition]) -> Select[Any]:
    return query.where(*(condition_sql(fields, condition) for condition in conditions))


def _comparable(field: ListField) -> ColumnElement[Any]:
    return field.expression.collate(CODE_POINTS) if field.kind is FieldKind.TEXT else field.expression


def _lower(text: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.lower(text.collate(UNICODE_CASES))


def _text(field: ListField) -> ColumnElement[Any]:
    """Return the field as SQL of the text that API responses contain."""
    if field.kind is FieldKind.TEXT:
        return field.expression
    if field.kind is FieldKind.INSTANT:
        utc = func.timezone("UTC", field.expression)
        return func.replace(func.to_char(utc, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), ".000000", "")
    return cast(field.expression, Text)
