"""`version` tells which code this is."""

import json
from pathlib import Path

import pytest

from storage.revisions import head
from telemetry import build
from tests.commands.running import run
from tests.house import PYPROJECT

VERSION = PYPROJECT["project"]["version"]


async def test_the_version_and_the_schema_it_needs_are_told_without_settings(tmp_path: Path) -> None:
    ended = await run("version", directory=tmp_path)
    assert ended == await run("--version", directory=tmp_path)
    assert ended.code == 0
    assert ended.output.splitlines()[:2] == [f"loyalty-webhooks {VERSION}", f"schema {head()}"]


@pytest.mark.parametrize(("written", "told"), [("0123abc\n", "0123abc"), ("\n", None)], ids=["known", "not given"])
async def test_the_commit_is_told_if_it_was_built_in(
    written: str, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "commit"
    file.write_text(written)
    monkeypatch.setattr(build, "COMMIT_FILE", file)
    ended = await run("version", "--json", directory=tmp_path)
    assert json.loads(ended.output) == {"version": VERSION, "schema": head(), "commit": told}
    ended = await run("version", directory=tmp_path)
    assert ("commit" in ended.output) is (told is not None)
