"""Column definitions that the tables of several nouns share."""

from typing import Any

from sqlalchemy import Column, DateTime, func
from sqlmodel import Field


def instant(*, nullable: bool = False, default_now: bool = False) -> Any:
    """Return a timestamptz column. `default_now` takes the database's clock, so that all instants compare."""
    default = func.clock_timestamp() if default_now else None
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=default))
