"""`expiry import` takes a file into the database whatever stops it, and says what it did not take and why."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from cryptography.fernet import Fernet

from domain.expiry.rows import Kind
from storage.expiry.rows import RELATIONS
from storage.expiry.source import source_columns
from storage.sealing import Sealer
from tests.commands.running import Ended, halting, run, start
from tests.databases import empty_database
from tests.deadlines import eventually
from tests.expiry import IDENTITIES, told
from tests.ground import STORE, Ground

KEY = Fernet.generate_key().decode()


@dataclass(frozen=True)
class Importing:
    """`expiry import` in a directory of its own, over the module's database."""

    ground: Ground
    directory: Path
    environment: dict[str, str]

    async def rows(self, kind: Kind, file: str, *options: str, store: str = STORE) -> Ended:
        return await run(
            *("expiry", "import", kind, file, "--store", store, *options),
            directory=self.directory,
            environment=self.environment,
        )

    def csv(self, rows: Iterable[dict[str, Any]], name: str = "rows.csv") -> str:
        path = self.directory / name
        rows = list(rows)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return name

    def ndjson(self, rows: Iterable[Any], name: str = "rows.ndjson") -> str:
        (self.directory / name).write_text(
            "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        )
        return name

    def rejects(self, name: str) -> list[tuple[int, str]]:
        with (self.directory / f"{name}.rejects.csv").open(newline="") as file:
            return [(int(row["line"]), row["reason"]) for row in csv.DictReader(file)]

    async def under_way(self) -> bool:
        """Return True once a chunk of a file is committed."""
        return bool(await self.ground.execute("SELECT 1 FROM expiry_import WHERE position_line > 0"))

    async def stored(self, kind: Kind) -> list[Any]:
        return await self.ground.execute(f"SELECT * FROM {RELATIONS[kind].table}")


@pytest.fixture
async def importing(ground: Ground, cleared_url: str, tmp_path: Path) -> Importing:
    for table in (*(relation.table for relation in RELATIONS.values()), "expiry_import"):
        await ground.execute(f"DELETE FROM {table}")
    return Importing(ground, tmp_path, {"DATABASE_URL": cleared_url, "ENCRYPTION_KEYS": KEY})


def numbers(ended: Ended) -> tuple[int, int, int]:
    """(written, older or repeated, rejected) of the table."""
    lines = [line.split() for line in ended.output.splitlines()]
    position = lines.index(["written", "older", "or", "repeated", "rejected"])
    written, older, rejected = (int(cell.replace(",", "")) for cell in lines[position + 1])
    return written, older, rejected


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("format_", ["csv", "ndjson"])
async def test_every_row_of_a_file_is_stored(importing: Importing, kind: Kind, format_: str) -> None:
    rows = [told(kind) for _ in range(40)]
    file = importing.csv(rows) if format_ == "csv" else importing.ndjson(rows)
    ended = await importing.rows(kind, file)
    assert (ended.code, numbers(ended)) == (0, (40, 0, 0)), ended.errors
    stored = {str(getattr(row, RELATIONS[kind].identity)): row for row in await importing.stored(kind)}
    assert set(stored) == {row[IDENTITIES[kind]] for row in rows}
    assert {row.customer_email for row in stored.values()} == {"member@example.com"}
    assert not (importing.directory / f"{file}.rejects.csv").exists()


async def test_the_codes_of_imported_coupons_are_encrypted(importing: Importing) -> None:
    assert (await importing.rows(Kind.COUPONS, importing.csv([told(Kind.COUPONS, code="VERY-SECRET")]))).code == 0
    [row] = await importing.stored(Kind.COUPONS)
    assert Sealer([KEY]).open(row.sealed_code) == "VERY-SECRET"


async def test_newer_rows_win_over_the_file_and_within_it(importing: Importing) -> None:
    old, new = {"updatedAt": "2026-01-01T00:00:00Z"}, {"updatedAt": "2026-01-02T00:00:00Z"}
    one, two = told(Kind.LEVELS), told(Kind.LEVELS)
    await importing.rows(Kind.LEVELS, importing.ndjson([one | new | {"levelName": "kept"}]))
    file = importing.csv([one | old, two | new | {"levelName": "kept"}, two | old])
    ended = await importing.rows(Kind.LEVELS, file)
    assert (ended.code, numbers(ended)) == (0, (1, 2, 0))
    assert [row.level_name for row in await importing.stored(Kind.LEVELS)] == ["kept", "kept"]


async def test_rejected_lines_are_listed_with_reasons_and_the_others_stored(importing: Importing) -> None:
    rows: list[Any] = [told(Kind.POINTS) for _ in range(50)]
    rows[9] = "{"
    rows[30] = rows[30] | {"points": "many"}
    file = importing.ndjson(rows)
    ended = await importing.rows(Kind.POINTS, file)
    assert (ended.code, numbers(ended)) == (1, (48, 0, 2))
    (first, _), second = importing.rejects(file)
    assert (first, second) == (10, (31, "points: must be a number"))
    assert "rows.ndjson.rejects.csv" in ended.errors


async def test_a_finished_file_is_not_imported_again_unless_asked(importing: Importing) -> None:
    file = importing.csv([told(Kind.POINTS)])
    assert numbers(await importing.rows(Kind.POINTS, file)) == (1, 0, 0)
    await importing.ground.execute("DELETE FROM point_transfer")
    second = await importing.rows(Kind.POINTS, file)
    assert "imported before" in second.errors
    assert await importing.stored(Kind.POINTS) == []
    assert numbers(await importing.rows(Kind.POINTS, file, "--again")) == (1, 0, 0)
    assert len(await importing.stored(Kind.POINTS)) == 1


async def test_an_import_killed_in_the_middle_goes_on_where_it_was(importing: Importing) -> None:
    rows: list[Any] = [told(Kind.COUPONS) for _ in range(12_000)]
    for line in range(0, len(rows), 1_000):
        rows[line] = "bad"
    file = importing.ndjson(rows)
    command = ("expiry", "import", "coupons", file, "--store", STORE)
    async with halting(importing.environment["DATABASE_URL"], "issued_coupon", after=5_000):
        process = await start(*command, directory=importing.directory, environment=importing.environment)
        try:
            await eventually(importing.under_way, 60, "a chunk is committed")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    reached = await importing.ground.scalar("SELECT position_line FROM expiry_import")
    assert 0 < reached < len(rows)
    # As if it had died between writing rejects and committing their chunk.
    with (importing.directory / f"{file}.rejects.csv").open("a") as rejects:
        rejects.write("999999,never committed\n")
    ended = await importing.rows(Kind.COUPONS, file)
    assert f"Resuming after line {reached:,}" in ended.errors
    assert (ended.code, numbers(ended)) == (1, (11_988, 0, 12))
    assert [line for line, _ in importing.rejects(file)] == list(range(1, 12_001, 1_000))
    assert await importing.ground.scalar("SELECT count(*) FROM issued_coupon") == 11_988


async def test_two_imports_of_one_file_at_once_do_not_both_go_on(importing: Importing) -> None:
    file = importing.ndjson([told(Kind.POINTS) for _ in range(12_000)])
    command = ("expiry", "import", "points", file, "--store", STORE)
    process = await start(*command, directory=importing.directory, environment=importing.environment)
    try:
        await eventually(importing.under_way, 30, "a chunk is committed")
        ended = await importing.rows(Kind.POINTS, file)
        _, errors = await process.communicate(b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    codes = sorted((process.returncode or 0, ended.code))
    assert codes in ([0, 1], [0, 0]), (ended, errors)  # one of them, unless they did not meet
    if codes == [0, 1]:
        assert "Another process is importing" in ended.errors + errors.decode()
    assert await importing.ground.scalar("SELECT count(*) FROM point_transfer") == 12_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["expiry", "import", "points", "rows.txt", "--store", "default"], "--format", id="unknown ending"),
        pytest.param(["expiry", "import", "points", "no.csv", "--store", "default"], "No such file", id="no file"),
        pytest.param(["expiry", "import", "points", "rows.csv", "--store", "nowhere"], "no store nowhere", id="store"),
        pytest.param(["expiry", "import", "coupons", "rows.csv", "--store", "default"], "unknown columns", id="kind"),
        pytest.param(
            ["expiry", "import", "points", "rows.csv", "--store", "default", "--delimiter", ";;"],
            "one character",
            id="d",
        ),
        pytest.param(
            ["expiry", "import", "points", "rows.csv", "--store", "default", "--rejects", "no/x.csv"],
            "cannot be written",
            id="rejects nowhere",
        ),
        pytest.param(["expiry", "check-source"], "EXPIRY_DATABASE_URL is not set", id="no source"),
    ],
)
async def test_wrong_usage_is_explained_and_stores_nothing(
    importing: Importing, arguments: list[str], said: str
) -> None:
    importing.csv([told(Kind.POINTS), told(Kind.POINTS, points="x")])
    (importing.directory / "rows.txt").write_text("")
    ended = await run(*arguments, directory=importing.directory, environment=importing.environment)
    assert ended.code == 2, ended.output
    assert said in " ".join(ended.errors.replace("│", " ").split())
    assert await importing.stored(Kind.POINTS) == []


async def test_a_database_that_is_away_is_said_and_ends_it(importing: Importing) -> None:
    file = importing.csv([told(Kind.POINTS)])
    ended = await run(
        *("expiry", "import", "points", file, "--store", STORE),
        directory=importing.directory,
        environment=importing.environment | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x"},
    )
    assert ended.code == 1
    assert "cannot be reached" in ended.errors


async def test_check_source_names_what_is_missing_until_all_is_well(importing: Importing) -> None:
    async with empty_database() as url:
        environment = importing.environment | {"EXPIRY_DATABASE_URL": url}

        async def check() -> Ended:
            return await run("expiry", "check-source", directory=importing.directory, environment=environment)

        first = await check()
        assert first.code == 1
        assert all(relation.view in first.output for relation in RELATIONS.values())
        connection = await asyncpg.connect(url)
        for relation in RELATIONS.values():
            columns = {name: type_ for name, type_ in source_columns(relation).items() if name != "store_code"}
            selected = ", ".join(f"NULL::{type_} AS {name}" for name, type_ in columns.items())
            await connection.execute(f"CREATE VIEW {relation.view} AS SELECT {selected}")
        second = await check()
        assert second.code == 1
        assert second.output.count("store_code") >= 3
        for relation in RELATIONS.values():
            await connection.execute(
                f"ALTER VIEW {relation.view} RENAME TO inner_{relation.view};"
                f"CREATE VIEW {relation.view} AS SELECT *, 'default'::text AS store_code FROM inner_{relation.view}"
            )
        await connection.close()
        third = await check()
        assert (third.code, "All columns are readable" in third.output) == (0, True), third.output
    away = await check()
    assert away.code == 1
    assert "Outage of the database of EXPIRY_DATABASE_URL: " in away.errors


def test_ids_of_the_samples_are_ids() -> None:
    assert all(UUID(told(kind)[IDENTITIES[kind]]) for kind in Kind)
