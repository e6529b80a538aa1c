"""No migration holds a table for long: each one's SQL is read by squawk, by the rules of `.squawk.toml`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storage.migrate import sql_between
from storage.revisions import revisions
from tests.house import ROOT

SQUAWK = Path(sys.executable).with_name("squawk")
STEPS = list(zip([None, *revisions()], revisions(), strict=False))


def found(sql: str, directory: Path) -> dict[str, str]:
    """Rule -> what is wrong by it."""
    file = directory / "migration.sql"
    file.write_text(sql)
    command = [SQUAWK, "--config", str(ROOT / ".squawk.toml"), "--reporter", "json", str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    return {one["rule_name"]: f"line {one['line'] + 1}: {one['message']}" for one in json.loads(run.stdout)}


@pytest.mark.parametrize(("before", "after"), STEPS, ids=revisions())
def test_a_migration_holds_no_table_for_long(before: str | None, after: str, tmp_path: Path) -> None:
    assert found(sql_between(before, after), tmp_path) == {}, "CONTRIBUTING.md, migrations, says how it is done"


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ("adding-required-field", "ALTER TABLE event ADD COLUMN extra text NOT NULL"),
        ("require-concurrent-index-creation", "CREATE INDEX IF NOT EXISTS event_by_name ON event (name)"),
        ("changing-column-type", "ALTER TABLE delivery ALTER COLUMN attempts TYPE bigint"),
        ("constraint-missing-not-valid", "ALTER TABLE event ADD CONSTRAINT named CHECK (name <> '')"),
        ("renaming-column", "ALTER TABLE delivery RENAME COLUMN url TO target"),
        ("ban-drop-column", "ALTER TABLE event DROP COLUMN digest"),
    ],
)
def test_what_would_hold_it_or_break_the_code_before_is_found(rule: str, statement: str, tmp_path: Path) -> None:
    assert rule in found(f"BEGIN;\n{statement};\nCOMMIT;\n", tmp_path)


@pytest.mark.parametrize(
    "migration",
    [
        "BEGIN; ALTER TABLE event ADD COLUMN extra text; COMMIT;",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS event_by_name ON event (name);",
        "BEGIN; ALTER TABLE event ADD CONSTRAINT named CHECK (name <> '') NOT VALID; COMMIT;",
        "BEGIN;\n-- squawk-ignore ban-drop-column\nALTER TABLE event DROP COLUMN digest; COMMIT;",
    ],
)
def test_what_holds_it_for_a_moment_is_let_through(migration: str, tmp_path: Path) -> None:
    assert found(migration, tmp_path) == {}
