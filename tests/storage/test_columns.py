"""Arrays bound for many rows: what is sent once for all rows is read as if each row had it."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from storage.columns import as_arrays, column_names, unnest
from tests.ground import Ground

COLUMNS = "id int, name text, taken bool, seconds float8"


@pytest.mark.parametrize(
    "rows",
    [
        [(1, "a", True, 0.5), (2, "a", True, 0.5), (3, "a", True, 0.5)],
        [(1, "a", True, None), (2, None, False, None), (3, "a", True, None)],
        [(1, None, True, 0.0), (2, "a", True, 0.0), (3, None, True, 0.0)],
        [(7, "a", False, 1.0), (7, "a", False, 1.0)],
        [(1, None, None, None), (2, None, None, None)],
        [(1, "a", False, None)],
        [],
    ],
    ids=["alike", "nulls between", "nulls around", "twice the same row", "nulls alone", "one row", "no row"],
)
async def test_rows_come_back_as_they_were_bound(ground: Ground, rows: Sequence[tuple[Any, ...]]) -> None:
    values = [[row[place] for row in rows] for place in range(4)]
    async with ground.database.transaction() as connection:
        found = await connection.execute(text(f"SELECT * FROM {unnest('given', COLUMNS)}"), as_arrays(COLUMNS, values))
        assert [tuple(row) for row in found] == list(rows)


def test_only_the_first_column_has_a_value_for_each_of_like_rows() -> None:
    bound = as_arrays(COLUMNS, [[1, 1, 1], ["a", "a", "a"], [True, False, True], [None, None, None]])
    assert tuple(bound) == column_names(COLUMNS)
    assert [len(array) for array in bound.values()] == [3, 1, 3, 0]
