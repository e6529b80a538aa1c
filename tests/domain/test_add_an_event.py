"""docs/add-an-event.md is followed to the letter in a copy of the tree: its blocks are applied, its commands run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from domain.wire.jsontext import dump, parse

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = "tests/goldens/VoucherWasIssued.json"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The part of the tree the page speaks of, with `.venv/bin/…` leading to this Python."""
    ignored = shutil.ignore_patterns("__pycache__", "test_add_an_event.py")
    for folder in ("domain", "tests/domain", "tests/contract", "tests/goldens"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def apply(file: Path, text: str) -> None:
    """Do with a block what the page says of its file: a module is new, JSON joins the events, a line is added."""
    if file.suffix == ".py":
        assert not file.exists()
        file.write_text(text)
    elif file.suffix == ".json":
        contract = json.loads(file.read_text())
        contract["events"] |= json.loads(text)
        file.write_text(json.dumps(contract))
    else:
        file.write_text(file.read_text() + text)


def run(command: str, tree: Path) -> None:
    done = subprocess.run(
        command, shell=True, cwd=tree, capture_output=True, text=True, timeout=300, check=False,
        env={"PATH": "/usr/bin:/bin", "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".h")},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.timeout(600)
def test_who_follows_the_page_has_added_an_event_that_all_tests_accept(tree: Path) -> None:
    blocks = list(BLOCK.finditer((ROOT / "docs" / "add-an-event.md").read_text()))
    touched = []
    for block in blocks:
        if block["language"] == "sh":
            run(block["text"], tree)
        elif block["file"] == SHOWN:
            golden = parse((tree / SHOWN).read_bytes())
            assert isinstance(golden, dict)
            assert isinstance(golden["every field"], dict)
            assert dump(golden["every field"]["legacy"]) == dump(parse(block["text"].encode()))
        else:
            touched.append(block["file"])
            apply(tree / block["file"], block["text"])
    assert [file for file in touched if not file.startswith("tests/")] == ["domain/events/families/vouchers.py"]
    assert sum(block["language"] == "sh" for block in blocks) == 2


def test_the_modules_of_the_page_pass_the_linter(tree: Path) -> None:
    for block in BLOCK.finditer((ROOT / "docs" / "add-an-event.md").read_text()):
        if block["language"] == "python":
            apply(tree / block["file"], block["text"])
            run(f".venv/bin/ruff check {block['file']} && .venv/bin/ruff format --check {block['file']}", tree)


def test_the_page_says_how_to_find_an_event() -> None:
    command = "grep -rn 'class CustomerUpdated(' domain/events"
    assert command in (ROOT / "docs" / "add-an-event.md").read_text()
    found = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split(":")[0] for line in found.splitlines() if ".py:" in line] == [
        "domain/events/families/members.py"
    ]
