"""Attempts counted as they are recorded, so that what a dashboard shows costs the same however long the log is.

A row belongs to the writer that counts in it (a worker process): two workers never wait for each other's rows.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, SmallInteger, Text
from sqlmodel import Field, SQLModel


def _start() -> Any:
    return Field(sa_column=Column(DateTime(timezone=True), primary_key=True))


def _count() -> Any:
    return Field(sa_column=Column(Integer, nullable=False))


class AttemptsOfMinute(SQLModel, table=True):
    """A store's attempts that came to an outcome within a minute, by outcome and by step of their duration."""

    __tablename__ = "attempts_of_minute"

    store_code: str = Field(sa_column=Column(Text, primary_key=True))
    minute: datetime = _start()
    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    """`delivered`; `failed`, to be tried again; `given_up`."""
    step: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    """Of `domain.durations`; -1 where nothing was measured."""
    writer_id: UUID = Field(primary_key=True)
    count: int = _count()

    __table_args__ = (Index("attempts_of_minute_by_age", "minute"),)


class AttemptsOfHour(SQLModel, table=True):
    """A subscription's attempts that came to an outcome within an hour."""

    __tablename__ = "attempts_of_hour"

    subscription_id: UUID = Field(primary_key=True)
    hour: datetime = _start()
    outcome: str = Field(sa_column=Column(Text, primary_key=True))
    writer_id: UUID = Field(primary_key=True)
    count: int = _count()

    __table_args__ = (Index("attempts_of_hour_by_age", "hour"),)
