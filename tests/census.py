"""Count what docs/decisions/README.md compares: `python -m tests.census [ROOT …]`, a column for each checkout.

Product code is what the wheel holds, migrations included.
"""

import ast
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from tests.house import ROOT
from tests.test_lifecycle import CHANGES_DELIVERY, FIGURES, WORDS, literals, template_literals

OTHER_NOUNS = re.compile(r"expir|schedule|migrations|domain/events/")
"""Files in which the words of a delivery's lifecycle are the words of another object, under old names and new."""


class Checkout:
    """The product code of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        settings = tomllib.loads((root / "pyproject.toml").read_text())
        self._entries = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]

    @cached_property
    def sources(self) -> dict[str, str]:
        """Source by path relative to the root."""
        return {str(path.relative_to(self.root)): path.read_text() for path in self._files()}

    def _files(self) -> Iterator[Path]:
        for entry in self._entries:
            path = self.root / entry
            yield from [path] if path.is_file() else sorted(path.rglob("*.py"))

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Syntax tree by path."""
        return {path: ast.parse(source) for path, source in self.sources.items()}

    def lines(self) -> str:
        """Return the number of lines."""
        return f"{sum(len(source.splitlines()) for source in self.sources.values()):,}"

    def largest_folder(self) -> str:
        """Return the number of modules of the fullest folder, `__init__.py` not counted, with its name."""
        folders = Counter(
            str(Path(path).parent)
            for path in self.sources
            if Path(path).name != "__init__.py" and "/" in path and "versions" not in path
        )
        folder = max(folders, key=lambda name: (folders[name], name))
        return f"{folders[folder]} (`{folder}/`)"

    def importers(self) -> dict[str, set[str]]:
        """Return the modules that import each module, by dotted name."""
        modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in self.sources}
        found: dict[str, set[str]] = {name: set() for name in modules}
        for name, path in modules.items():
            for node in ast.walk(self.trees[path]):
                for imported in _imported(node):
                    if imported in modules and imported != name:
                        found[imported].add(name)
        return {name: by for name, by in found.items() if not modules[name].endswith("__init__.py")}

    def single_importers(self) -> str:
        """Return the number of modules that one other module imports."""
        return f"{sum(len(by) == 1 for by in self.importers().values())}"

    def repeated_classes(self) -> str:
        """Return the number of class names that exist more than once, leading underscores ignored."""
        found: dict[str, int] = defaultdict(int)
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    found[node.name.lstrip("_")] += 1
        return f"{sum(count > 1 for count in found.values())}"

    def status_literals(self) -> str:
        """Return the number of literals of statuses and reasons outside the enums, with the number of files."""
        found: dict[str, int] = {}
        for path, tree in self.trees.items():
            if not OTHER_NOUNS.search(path):
                found[path] = len(list(literals(tree, WORDS - FIGURES.get(path, set()))))
        for file in self.root.glob("api/**/*.html"):
            path = str(file.relative_to(self.root))
            if not OTHER_NOUNS.search(path):
                found[path] = len(list(template_literals(file.read_text(), WORDS - FIGURES.get(path, set()))))
        return _in_files(found)

    def statements(self) -> str:
        """Return the number of statements that create or change a delivery, with the number of files."""
        return _in_files(
            {
                path: len(CHANGES_DELIVERY.findall(source))
                for path, source in self.sources.items()
                if "versions" not in path
            }
        )

    def decisions(self) -> str:
        """Return the number of decision records, the template not counted."""
        return f"{len(list(self.root.glob('docs/decisions/[0-9]*.md'))) - 1}"


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _in_files(counts: dict[str, int]) -> str:
    files = sum(count > 0 for count in counts.values())
    return f"{sum(counts.values())} in {files} {'file' if files == 1 else 'files'}" if files else "0"


ROWS = {
    "lines of product Python, without bench and tests": Checkout.lines,
    "modules in the largest folder": Checkout.largest_folder,
    "modules with exactly one importer": Checkout.single_importers,
    "class names that exist more than once": Checkout.repeated_classes,
    "status and reason literals outside the enums": Checkout.status_literals,
    "statements that create or change a delivery": Checkout.statements,
    "decision records": Checkout.decisions,
}


def main(roots: list[Path]) -> None:
    """Print the table."""
    checkouts = [Checkout(root.resolve()) for root in roots or [ROOT]]
    for name, count in ROWS.items():
        print(f"| {name} | {' | '.join(count(checkout) for checkout in checkouts)} |")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
