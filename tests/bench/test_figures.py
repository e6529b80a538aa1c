"""Kept results name where they come from, and are told from older ones."""

import json
import subprocess
from pathlib import Path

import pytest

from bench import figures
from bench.pipeline import RESULTS, machine


def test_every_kept_result_is_that_of_a_command() -> None:
    known = {name for one in figures.MEASUREMENTS for name in one.results} | {"figures"}
    assert {path.stem for path in RESULTS.glob("*.json")} - known == set()


def test_what_is_measured_is_there() -> None:
    measured = {name for one in figures.MEASUREMENTS for name in one.measures}
    assert [name for name in measured if not (RESULTS.parents[1] / name).exists()] == []


def test_a_result_is_older_once_what_it_measures_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    def changed(name: str, message: str = "Change it") -> str:
        with (tmp_path / name).open("a") as file:
            file.write("more\n")
        git("add", name)
        git("commit", "--quiet", "--message", message)
        return git("rev-parse", "HEAD")

    monkeypatch.setattr(figures, "RESULTS", tmp_path / "bench" / "results")
    git("init", "--quiet")
    result = {"machine": {"commit": changed("relay")}}
    changed("panel")
    changed("relay", "Rename it\n\nFigures: unaffected")
    assert not figures.is_older("burst-1", result, ("relay",))
    assert figures.is_older("burst-1", result, ("panel",))
    assert figures.is_older("burst-1", {"machine": {}}, ("relay",))
    changed("relay", "Make batches small\n\nFigures: fairness-noisy floors")
    assert not figures.is_older("burst-1", result, ("relay",))
    assert figures.is_older("floors", result, ("relay",))
    changed("relay", "Figures: unaffected\n\nNot in a trailer.")
    assert figures.is_older("burst-1", result, ("relay",))
    assert figures.is_older("burst-1", {"machine": {"commit": result["machine"]["commit"] + "+"}}, ("relay",))


def test_a_result_names_its_machine_load_commit_and_command() -> None:
    named = {"cores", "memory_gb", "system", "python", "load_before", "at", "commit", "command"}
    assert machine().keys() >= named
    kept = {path.stem: json.loads(path.read_text())["machine"].keys() for path in RESULTS.glob("*.json")}
    assert {name: named - facts for name, facts in kept.items() if named - facts} == {}
