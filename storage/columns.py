"""Columns that the tables of several nouns share, enum values and bound arrays as SQL.

The arrays' columns are named with their types, as in `message_id uuid, number int`.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, DateTime, Dialect, Integer, Text, TypeDecorator, func
from sqlmodel import Field, SQLModel

Member = TypeVar("Member", bound=StrEnum)


class TableModel(SQLModel):
    """Base of all tables. Rows are not validated, so no validator is built, which saves 4 % of a process's start."""

    model_config = {"defer_build": True}


class _Named(TypeDecorator[Member], Generic[Member]):
    """Text that is read as a member of an enum."""

    impl = Text
    cache_ok = True

    def __init__(self, enum: type[Member]) -> None:
        super().__init__()
        self.enum = enum

    def process_result_value(self, value: str | None, dialect: Dialect) -> Member | None:
        return None if value is None else self.enum(value)


def member_of(enum: type[StrEnum]) -> Any:
    """Return a text column whose values are read as members of the enum."""
    return Field(sa_column=Column(_Named(enum), nullable=False))


def instant(*, nullable: bool = False, default_now: bool = False) -> Any:
    """Return a timestamptz column. `default_now` takes the database's clock, so that all instants compare."""
    default = {"server_default": func.clock_timestamp()} if default_now else {}
    type_: Any = DateTime(timezone=True)
    return Field(default=None, sa_type=type_, nullable=nullable, sa_column_kwargs=default)


def counter(default: int = 0, type_: Any = Integer) -> Any:
    """Return an integer column with a default."""
    return Field(default=default, sa_column=Column(type_, nullable=False, server_default=str(default)))


def in_list(values: Iterable[StrEnum]) -> str:
    """Return SQL: the values as a constant list for `IN`, so that the planner can match partial indexes."""
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"


@cache
def column_names(columns: str) -> Sequence[str]:
    """Return the names of these columns."""
    return tuple(column.split()[0] for column in columns.split(","))


def unnest(alias: str, columns: str) -> str:
    """Return SQL for FROM: rows `alias` of these columns, each bound as one array under the column's name. An array of
    one element holds for all rows, one of none is null for all."""
    typed = [column.split() for column in columns.split(",")]
    arrays = {name: f"CAST(:{name} AS {type_}[])" for name, type_ in typed}
    read = (
        f"CASE cardinality({array}) WHEN 1 THEN ({array})[1] ELSE {name} END AS {name}"
        for name, array in arrays.items()
    )
    bound = f"unnest({', '.join(arrays.values())}) AS bound ({', '.join(arrays)})"
    return f"(SELECT {', '.join(read)} FROM {bound}) AS {alias}"


def as_arrays(columns: str, values: Iterable[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return the arrays to bind to `unnest`, from the values of each column. The first one has an element for each row;
    of the others, those with one value alone are short, because the driver examines every element."""
    bound = dict(zip(column_names(columns), values, strict=True))
    first = next(iter(bound))
    return {name: array if name == first else _short(array) for name, array in bound.items()}


def _short(array: Sequence[Any]) -> Sequence[Any]:
    if not array or array[0] != array[-1] or array.count(array[0]) < len(array):
        return array
    return () if array[0] is None else array[:1]


def by_column(rows: Sequence[object], columns: str) -> dict[str, Sequence[Any]]:
    """Return the arrays to bind to `unnest`, from the attributes of the rows; see `as_arrays`."""
    return as_arrays(columns, ([getattr(row, name) for row in rows] for name in column_names(columns)))
