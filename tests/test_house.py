"""The rules of the house that a machine can check."""

import ast
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

from tests import scheduling
from tests.house import PACKAGES, PYPROJECT, ROOT, project_files, python_files

MOST_LINES_OF_A_FILE = 600
"""Enough for a class with one responsibility. At 400, classes were cut into fragments to satisfy the number."""

MOST_LINES_OF_A_FUNCTION = 75  # "hardly over 60"
MOST_MODULES_OF_A_FOLDER = 15  # beyond that, a part of the folder has a name of its own
MOST_DECISIONS = 25  # a reader takes them in within an hour; tuning results are rows of docs/performance.md
PARTS_OF_A_DECISION = ["Decision", "Context", "Price", "Enforced by"]
EMOJI_JOINER = "\u200d"
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "managers", "manager", "misc"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".html", ".css", ".js", ".mako", ""}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_everything_that_runs_is_installed_and_type_checked() -> None:
    not_installed = {"bench", "docs", "examples", "tests"}
    tops = {relative(path).partition("/")[0] for path in project_files() if path.suffix == ".py"} - not_installed
    assert set(PACKAGES) == tops
    assert set(PACKAGES) <= set(PYPROJECT["tool"]["mypy"]["files"])


def test_no_python_file_is_too_long_to_read() -> None:
    files = [path for path in project_files() if path.suffix == ".py" and "migrations" not in path.parts]
    counted = {relative(path): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in counted.items() if lines > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_too_long_to_read() -> None:
    long = {}
    for path in python_files(*PACKAGES):
        if "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long[f"{relative(path)}:{node.name}"] = lines
    assert long == {}


def test_no_folder_has_more_modules_than_a_reader_surveys() -> None:
    modules = [path for path in python_files(*PACKAGES) if path.name != "__init__.py" and path.parent != ROOT]
    folders = Counter(relative(path.parent) for path in modules if path.parent.name != "versions")
    assert {name: count for name, count in folders.items() if count > MOST_MODULES_OF_A_FOLDER} == {}


def test_every_folder_with_tests_is_a_package_so_that_it_hides_no_other() -> None:
    folders = {path.parent for path in python_files("tests")}
    assert [relative(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {relative(path) for path in project_files() if path.suffix == ".py"}
    assert {name for name in names if VAGUE_NAMES & set(Path(name).with_suffix("").parts)} == set()


def test_no_two_classes_share_a_name_so_that_a_name_says_which_is_meant() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in python_files(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].append(f"{relative(path)}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_no_text_holds_characters_that_hide_or_reorder_what_is_read() -> None:
    offenders = []
    for path in project_files():
        if path.suffix not in TEXT_SUFFIXES:
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            hidden = [letter for letter in line if unicodedata.category(letter) == "Cf" and letter != EMOJI_JOINER]
            if hidden:
                offenders.append(f"{relative(path)}:{number}: U+{ord(hidden[0]):04X}")
    assert offenders == []


def test_no_text_says_that_the_signing_key_of_a_webhook_is_never_shown_again() -> None:
    phrase = re.compile(r"shown (only )?once|(cannot|never) be shown again")
    files = [*python_files("api/subscriptions", "api/subscription_sets", "commands/subscriptions")]
    files.append(ROOT / "api" / "panel" / "texts" / "webhooks.toml")
    assert [relative(path) for path in files if phrase.search(path.read_text())] == []
    documents = [path.read_text() for path in project_files() if path.suffix == ".md"]
    rows = [line for text in documents for line in text.splitlines() if "`hmacSecret`" in line]
    assert [row for row in rows if phrase.search(row)] == []


def test_nothing_is_left_to_be_done_in_a_comment() -> None:
    mark = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    offenders = [
        f"{relative(path)}:{number}"
        for path in python_files(*PACKAGES, "tests")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if mark.search(line) and path != Path(__file__)
    ]
    assert offenders == []


def test_every_decision_has_its_parts_and_names_a_check_that_exists() -> None:
    records = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(len(records)))
    assert len(records) - 1 <= MOST_DECISIONS
    for record in records[1:]:
        text = record.read_text()
        assert text.startswith(f"# {record.name[:4]}: "), record
        parts = re.findall(r"^\*\*(\w[\w ]*)\.\*\*", text, re.MULTILINE)
        assert [part for part in parts if part != "Alternatives"] == PARTS_OF_A_DECISION, record
        decision = text.partition("**Decision.**")[2].partition("\n\n")[0]
        assert not re.search(r"[.!?]\s+[A-Z`]", decision), f"{record}: the decision is one sentence"
        enforced = text.partition("**Enforced by.**")[2]
        paths = re.findall(r"`([\w./-]+)`", enforced)
        assert paths, f"{record}: names nothing that enforces it"
        assert [path for path in paths if not (ROOT / path).exists()] == [], record


def test_no_case_of_a_test_is_named_by_chance_because_parallel_runs_must_collect_the_same() -> None:
    chance = re.compile(r"\b(uuid[14]|random|token_hex|urandom|now|time|monotonic)\(\)")
    offenders = []
    for path in python_files("tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", ()):
                code = ast.unparse(decorator)
                if "parametrize" in code and chance.search(re.sub(r"lambda: .*", "", code)):
                    offenders.append(f"{relative(path)}:{decorator.lineno}")
    assert offenders == []


def test_each_file_with_a_known_duration_exists() -> None:
    assert [path for path in scheduling.SECONDS if not (ROOT / path).exists()] == []
