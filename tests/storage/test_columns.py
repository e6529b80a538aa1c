"""What is sent short is read whole."""

import pytest
from sqlalchemy import text

from storage.columns import alike_column, once_if_alike, without_nulls_alone
from storage.database import Database

ROWS = text(f"""
SELECT id, {alike_column("name", "text")}, reason
FROM unnest(CAST(:id AS int[]), CAST(:name AS text[]), CAST(:reason AS text[])) AS rows (id, name, reason)
""")


@pytest.mark.parametrize("names", [["a"], ["a", "a", "a"], ["a", "b", "a"], ["a", "a", "b"], ["b", "a", "a"], []])
@pytest.mark.parametrize("reasons", ["nulls", "one", "mixed"])
async def test_rows_come_out_as_they_went_in(database: Database, names: list[str], reasons: str) -> None:
    why = {"nulls": [None, None, None], "one": ["x", "x", "x"], "mixed": [None, "x", None]}[reasons][: len(names)]
    ids = list(range(len(names)))
    async with database.transaction() as connection:
        columns = {"id": ids, "name": once_if_alike(names), "reason": without_nulls_alone(why)}
        rows = (await connection.execute(ROWS, columns)).all()
    assert [tuple(row) for row in rows] == list(zip(ids, names, why, strict=True))


def test_what_says_the_same_is_sent_once() -> None:
    assert list(once_if_alike(["a", "a"])) == ["a"]
    assert list(once_if_alike(["a", "b"])) == ["a", "b"]
    assert list(without_nulls_alone([None, None])) == []
    assert list(without_nulls_alone([None, 1])) == [None, 1]
