"""Mapping by name between columns and dataclasses or named tuples."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Column, Result, Table
from sqlmodel import SQLModel

Item = TypeVar("Item")
Other = TypeVar("Other")


def table_of(model: type[SQLModel]) -> Table:
    """Return the model's table, for expressions that SQLModel's attributes have no type for."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


def columns_for(model: type[SQLModel], row_type: Any, *, but: Collection[str] = ()) -> list[Column[Any]]:
    """Return the model's columns that have the names of the dataclass's fields, except the fields named in `but`."""
    return [table_of(model).c[name] for name in _field_names(row_type) if name not in but]


def _field_names(row_type: Any) -> tuple[str, ...]:
    names: tuple[str, ...] | None = getattr(row_type, "_fields", None)
    return tuple(field.name for field in fields(row_type)) if names is None else names


def one_as(make: Callable[..., Item], result: Result[Any]) -> Item | None:
    """Return `make(column=value, …)` of the only row, or None when there is no row."""
    row = result.one_or_none()
    return None if row is None else make(**row._asdict())


def all_as(make: Callable[..., Item], result: Result[Any]) -> list[Item]:
    """Return `make(column=value, …)` of each row."""
    return [make(**row._asdict()) for row in result]


def rows_as(row_type: Callable[..., Item], result: Result[Any]) -> Iterator[Item]:
    """Return each row as an instance of a dataclass or named tuple whose fields are among the columns. Names are looked
    up once per result instead of once per row, for statements on the path of every delivery."""
    return (row_type(*row) for row in result.columns(*_field_names(row_type)))


def pairs_as(
    first: Callable[..., Item], second: Callable[..., Other], result: Result[Any]
) -> Iterator[tuple[Item, Other]]:
    """Return each row as two instances, like `rows_as`."""
    names = _field_names(first)
    count = len(names)
    rows = result.columns(*names, *_field_names(second))
    return ((first(*row[:count]), second(*row[count:])) for row in rows)
