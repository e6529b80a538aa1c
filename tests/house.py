"""What the tests of the house look at: the project's files."""

import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: tuple[str, ...] = tuple(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
"""What is installed: packages, and the modules beside them."""


def python_files(*entries: str) -> Iterator[Path]:
    """Every Python file below the given entries of the project's root."""
    for entry in entries:
        path = ROOT / entry
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def project_files() -> list[Path]:
    """Every file that is, or is about to be, under version control; in an unpacked archive, every file but caches."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
        return [path for path in paths if path.is_file()]
    skipped = {".venv", "__pycache__", ".loyalty-webhooks", "node_modules"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.relative_to(ROOT).parts)]
