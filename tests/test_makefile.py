"""`make` says what it can do, and what is missing when it cannot."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.house import ROOT


def make(directory: Path, *arguments: str, path: str = "/usr/bin:/bin") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=directory,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def targets() -> set[str]:
    """Targets of the Makefile for people."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_alone_lists_every_target_with_a_sentence() -> None:
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*\.)$", make(ROOT).stdout, re.MULTILINE))
    assert set(listed) == targets() - {"help"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout without its .venv, as far as make needs one."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_without_a_python_that_will_do_it_says_what_is_needed(copy: Path) -> None:
    for name in ("python3", "python3.13"):
        old = copy / "bin" / name
        old.parent.mkdir(exist_ok=True)
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    tools = {name: shutil.which(name) for name in ("sh", "make")}
    for name, tool in tools.items():
        assert tool is not None
        (copy / "bin" / name).symlink_to(tool)
    ended = make(copy, "install", path=str(copy / "bin"))
    assert ended.returncode != 0
    assert "Python 3.11 or newer" in ended.stderr
    assert "make PYTHON=" in ended.stderr
    assert not (copy / ".venv").exists()


def test_a_python_that_was_named_and_will_not_do_is_not_replaced_by_another(copy: Path) -> None:
    ended = make(copy, "install", "PYTHON=/bin/false")
    assert ended.returncode != 0
    assert "Looked for: /bin/false" in ended.stderr
