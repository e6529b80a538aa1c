"""Tables and results mapped by name: the columns that a dataclass names, and rows as instances of it."""

from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Column, Result, Table
from sqlmodel import SQLModel

Item = TypeVar("Item")


def table_of(model: type[SQLModel]) -> Table:
    """Return the model's table, for expressions that SQLModel's attributes have no type for."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


def columns_for(model: type[SQLModel], row_type: Any, *, but: Collection[str] = ()) -> list[Column[Any]]:
    """Return the model's columns that have the names of the dataclass's fields, except the fields named in `but`."""
    return [table_of(model).c[field.name] for field in fields(row_type) if field.name not in but]


def one_as(make: Callable[..., Item], result: Result[Any]) -> Item | None:
    """Return `make(column=value, …)` of the only row, or None when there is no row."""
    row = result.one_or_none()
    return None if row is None else make(**row._asdict())


def all_as(make: Callable[..., Item], result: Result[Any]) -> list[Item]:
    """Return `make(column=value, …)` of each row."""
    return [make(**row._asdict()) for row in result]
