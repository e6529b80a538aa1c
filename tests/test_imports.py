"""Who may import whom, where import-linter cannot see it: modules beside the packages, cycles, the sandbox's rules.

The contracts between packages stand in pyproject.toml.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.house import PACKAGES, ROOT, python_files

PROJECT = {entry.removesuffix(".py") for entry in PACKAGES}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of the modules that a tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def own_imports(path: Path) -> set[str]:
    """The project's packages and modules that a file imports."""
    return {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))} & PROJECT


LAYERS_OF_A_WORKER = {
    *("activities", "domain", "relay", "sending", "settings", "storage", "telemetry", "temporal"),
    "workflows",
}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        pytest.param("cli.py", {"commands"}, id="the command line puts commands together"),
        pytest.param("settings.py", {"domain"}, id="settings know the rules alone"),
        pytest.param("worker.py", LAYERS_OF_A_WORKER, id="the worker is built without API and commands"),
    ],
)
def test_a_module_beside_the_packages_imports_only(module: str, allowed: set[str]) -> None:
    assert own_imports(ROOT / module) - allowed == set()


@pytest.mark.parametrize("package", ["workflows", "activities", "temporal"])
def test_the_package_exports_nothing_because_that_would_load_everything_into_the_sandbox(package: str) -> None:
    assert (ROOT / package / "__init__.py").read_text() == ""


def test_workflows_name_activities_only_where_the_sandbox_lets_imports_through() -> None:
    offenders = []
    for path in python_files("workflows"):
        if "@workflow.defn" not in path.read_text():
            continue  # let through itself, by the module that defines the workflow
        tree = ast.parse(path.read_text())
        through = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.With)
            and any("imports_passed_through" in ast.unparse(item.context_expr) for item in node.items)
            for inner in ast.walk(node)
        }
        offenders += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom | ast.Import)
            and id(node) not in through
            and any(name.partition(".")[0] == "activities" for name in imports(node))
        ]
    assert offenders == []


def test_no_import_hides_in_a_function() -> None:
    hidden = []
    for path in python_files(*PACKAGES):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                hidden += [
                    f"{path.relative_to(ROOT)}:{node.lineno}"
                    for node in ast.walk(function)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                ]
    assert hidden == []


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("api", {"alembic", "fastapi_offline", "starlette_admin"}),
        ("worker", {"aiohttp", "alembic", "fastapi", "jinja2", "starlette_admin"}),
    ],
)
def test_a_process_does_not_load_what_it_does_not_need(command: str, unneeded: set[str]) -> None:
    """Each of these would add up to a tenth to the CPU of a start."""
    script = f"import sys, commands.{command}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert unneeded & set(loaded.stdout.split()) == set()


def test_only_the_configuration_of_the_logs_imports_structlog() -> None:
    """A logger of structlog's own would write past the configuration, to standard output."""
    users = {path.relative_to(ROOT) for path in python_files(*PACKAGES) if "structlog" in path.read_text()}
    assert users == {Path("telemetry/logs.py")}


def test_workflow_modules_import_no_io_and_no_settings() -> None:
    forbidden = {"aiohttp", "asyncpg", "fastapi", "httpx", "settings", "sqlalchemy", "sqlmodel", "storage"}
    offenders = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in python_files("workflows")
        if (found := {name.partition(".")[0] for name in imports(ast.parse(path.read_text()))} & forbidden)
    }
    assert offenders == {}


def test_no_modules_import_each_other_in_a_circle_not_even_for_type_checking_alone() -> None:
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in python_files(*PACKAGES)}
    modules = {".".join(part for part in name.parts if part != "__init__"): path for name, path in paths.items()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text())
        names = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        graph[module] = (names | set(imports(tree))) & modules.keys() - {module}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
