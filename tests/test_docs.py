"""What the documents name exists: commands, options, make targets, files, settings."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

import cli
from api.panel.texts import TEXTS
from domain.delivery.lifecycle import SubscriptionStatus
from settings import Settings
from storage.subscriptions.queries import SHOWN_FAILING
from tests.census import ROWS, Checkout
from tests.house import ROOT, project_files, python_files
from tests.test_makefile import targets

DOCUMENTS = [path for path in project_files() if path.suffix == ".md" and path.name != "CHANGELOG.md"]
COMMAND_LINE = typer.main.get_command(cli.command_line())
MOST_WORDS_OF_THE_ARCHITECTURE = 1_500  # ten minutes, before the first change of code
PATH_PACKAGES = ("relay", "sending", "activities", "workflows")
PARTS_OF_PROGRAMS = {"activitie", "context", "error", "found", "item", "setting", "watch", "workflow", "writer"}
"""Parts of class names that are no concept of the path, without a plural's s."""

MOST_FLOW_CONTROLS = 10

TOP_LEVEL = {path.name for path in ROOT.iterdir()}

OF_THE_CODE = {
    *("CONTRIBUTING.md", "add-an-event.md", "architecture.md", "delivery-protocol.md", "dependencies.md"),
    *("lifecycle.md", "performance.md"),
}
"""Pages for those who read the code, in the words of the code; the decisions too."""

FOR_USERS = [path for path in DOCUMENTS if path.name not in OF_THE_CODE and path.parent.name != "decisions"]
TOLD_ONCE = {"README.md": 1, "concepts.md": 1, "contract.md": 1}

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code_of(document: Path) -> list[str]:
    """Lines of fenced code, continuations joined, and inline code."""
    text = document.read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def command_of(words: list[str]) -> tuple[TyperCommand | TyperGroup | None, str]:
    """The command that the words begin with, and its name; None when a part of it does not exist."""
    found: TyperCommand | TyperGroup = COMMAND_LINE
    name = []
    for word in words:
        if not isinstance(found, TyperGroup) or not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        name.append(word)
        following = found.commands.get(word)
        if following is None:
            return None, " ".join(name)
        found = following
    return found, " ".join(name)


@documents
def test_every_command_and_option_named_exists(document: Path) -> None:
    missing = []
    for code in code_of(document):
        for call in re.findall(r"loyalty-webhooks((?: +[^\s|;&]+)*)", code):
            words = call.split()
            command, name = command_of(words)
            if command is None:
                missing.append(name)
                continue
            options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
            options |= {"--help", "-h"}
            used = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
            missing += [f"{name} {option}" for option in sorted(used - options)]
    assert missing == []


@documents
def test_every_measurement_named_exists_and_its_scenario(document: Path) -> None:
    missing = []
    for code in code_of(document):
        for module, words in re.findall(r"python -m (bench[\w.]*)((?: +[a-z][a-z0-9-]*)*)", code):
            source = ROOT / (module.replace(".", "/") + ".py")
            if not source.exists():
                source = ROOT / module.replace(".", "/") / "__main__.py"
            text = source.read_text() if source.exists() else ""
            scenarios = [] if module == "bench.postgres" else words.split()
            missing += [module] * (not text) + [word for word in scenarios if f'"{word}"' not in text]
    assert missing == []


@documents
def test_every_make_target_named_exists(document: Path) -> None:
    named = {
        target
        for code in code_of(document)
        for target in re.findall(r"(?:^|[;&|(] *|\$ )make ([a-z][a-z-]*)(?![\w=-])", code)
    }
    assert named - targets() == set()


@documents
def test_every_file_linked_or_named_exists(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    for code in code_of(document) if document.name != "add-an-event.md" else []:  # its test makes the files it names
        if re.fullmatch(r"[\w.-]+/[\w./-]*", code) and code.partition("/")[0] in TOP_LEVEL:
            missing += [] if (ROOT / code).exists() else [code]
    assert missing == []


@pytest.mark.parametrize("page", ["actions", "panel", "start/administrator", "start/operator", "troubleshooting"])
def test_words_of_the_panel_are_those_that_it_shows(page: str) -> None:
    prose = " ".join((ROOT / "docs" / f"{page}.md").read_text().split())
    named = set(re.findall(r"(?<![*\w])\*([A-Za-z][^*|]*)\*(?![*\w])", prose))
    assert named - {*TEXTS.values(), *SubscriptionStatus, SHOWN_FAILING} == set()


@pytest.mark.parametrize("document", FOR_USERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_users_read_of_webhooks_and_are_told_once_what_the_api_calls_them(document: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```|^#.*?$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", prose)
    assert len(re.findall(r"\bsubscriptions?\b", prose, re.IGNORECASE)) <= TOLD_ONCE.get(document.name, 0)


@documents
def test_every_setting_named_exists(document: Path) -> None:
    known = {name.upper() for name in Settings.model_fields}
    elsewhere = re.compile(r"TEMPORAL_\w+|LOYALTY_WEBHOOKS_\w+|TEST_POSTGRES_URL|WEBHOOK_\w+")
    named = {name for code in code_of(document) for name in re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)=", code)}
    assert {name for name in named - known if not elsewhere.fullmatch(name)} == set()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_generated_pages_are_up_to_date() -> None:
    check = [sys.executable, "docs/render.py", "--check"]
    run = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == ""


def test_the_architecture_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text().split()) <= MOST_WORDS_OF_THE_ARCHITECTURE


def test_an_event_passes_at_most_ten_mechanisms_of_flow_control() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("<!-- flow control -->")[2].partition("<!-- /flow control -->")[0]
    assert 0 < len(re.findall(r"^\| \d+ \|", table, re.MULTILINE)) <= MOST_FLOW_CONTROLS


def test_the_table_of_the_redesign_is_that_of_the_code() -> None:
    """Lines may differ by a hundredth: they change with each commit."""
    page, checkout = (ROOT / "docs" / "decisions" / "README.md").read_text(), Checkout(ROOT)
    for name, count in ROWS.items():
        [said] = re.findall(rf"^\| {re.escape(name)} \|.*\| ([^|]+) \|$", page, re.MULTILINE)
        if count is Checkout.lines:
            lines, counted = (int(figure.replace(",", "")) for figure in (said, count(checkout)))
            assert abs(lines - counted) <= counted / 100
        else:
            assert said == count(checkout), name


def test_every_fixture_that_is_shared_is_in_the_table() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Tests and their fixtures")[2].partition("\n## ")[0]
    known = set(re.findall(r"`(\w+)`", table))
    shared = {
        node.name
        for path in python_files("tests")
        if path.name == "conftest.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    assert shared - known == set()


def test_class_names_of_the_path_are_made_of_the_words() -> None:
    """A concept with two names is two concepts to whoever reads the code. Only what the table defines is a word of it:
    its first column, and what is in italics."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Words\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+)\|(.*)$", section, re.MULTILINE)
    defined = [part for word, meaning in rows for part in (word, *re.findall(r"\*([^*]+)\*", meaning))]
    words = {word.removesuffix("s") for text in defined for word in re.findall(r"[a-z0-9]+", text.lower())}
    other = {}
    for path in python_files(*PATH_PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                parts = {part.lower().removesuffix("s") for part in re.findall(r"[A-Z][a-z0-9]*", node.name)}
                if unknown := parts - words - PARTS_OF_PROGRAMS:
                    other[f"{path.relative_to(ROOT)}:{node.name}"] = sorted(unknown)
    assert other == {}, "CONTRIBUTING.md, Words"
