"""Enum values as SQL constants."""

from collections.abc import Iterable
from enum import StrEnum


def in_list(values: Iterable[StrEnum]) -> str:
    """Return SQL: the values as a constant list for `IN`, so that the planner can match partial indexes."""
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"
