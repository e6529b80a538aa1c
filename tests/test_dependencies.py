"""Every dependency is declared, explained and pinned without saying where it was downloaded from."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house import PACKAGES, PYPROJECT, ROOT, python_files

PROJECT = PYPROJECT["project"]
SECTIONS = {
    "To run": PROJECT["dependencies"],
    "For a stack on one machine (extra `local`)": PROJECT["optional-dependencies"]["local"],
    "For traces (extra `tracing`)": PROJECT["optional-dependencies"]["tracing"],
    "To develop (extra `dev`)": PROJECT["optional-dependencies"]["dev"],
}
# Modules that come with a declared package and belong to its interface.
COMPANIONS = {
    "markupsafe": "jinja2",
    "protobuf": "temporalio",
    "pydantic-core": "pydantic",
    "starlette": "fastapi",
}


def normal(name: str) -> str:
    """`Uvicorn[standard]>=1` -> `uvicorn`"""
    return re.split(r"[\[<>=!~; ]", name.strip(), maxsplit=1)[0].lower().replace("_", "-")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_declared_dependency_has_its_line_and_no_line_is_left_over(section: str) -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| ([a-z][a-z0-9-]*) \| .{10,} \|$", text, re.MULTILINE)
    assert sorted(name for name in explained if name != "package") == sorted(map(normal, SECTIONS[section]))


def test_the_code_imports_only_what_is_declared() -> None:
    declared = {normal(name) for section, names in SECTIONS.items() if "dev" not in section for name in names}
    distributions = packages_distributions()
    undeclared: dict[str, set[str]] = {}
    for path in python_files(*PACKAGES):
        for module in _imported(path):
            names = {normal(name) for name in distributions.get(module, [module])}
            names = {COMPANIONS.get(name, name) for name in names}
            if not names & declared:
                undeclared.setdefault(module, set()).add(str(path.relative_to(ROOT)))
    assert undeclared == {}


def _imported(path: Path) -> set[str]:
    """Top-level names of what a file imports, without the standard library and this project."""
    own = {entry.removesuffix(".py") for entry in PACKAGES}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - own - sys.stdlib_module_names


@pytest.mark.parametrize("folder", ["", "bench/peers/", "tests/openapi_client/"])
def test_every_pinned_package_has_its_hashes_and_names_no_registry(folder: str) -> None:
    text = (ROOT / f"{folder}requirements.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_every_declared_dependency_is_pinned() -> None:
    pinned = {normal(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalnum()}
    declared = {normal(name) for names in SECTIONS.values() for name in names}
    assert declared - pinned == set()
