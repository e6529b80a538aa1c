"""The lifecycle has one place: statements in one module, statuses and reasons in enums, transitions in one table."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from domain.delivery.lifecycle import DeliveryStatus, Reason, SubscriptionStatus
from tests.house import PACKAGES, ROOT, python_files

STATEMENTS = ROOT / "storage/deliveries/transitions.py"
CHANGES_DELIVERY = re.compile(r"\b(INSERT\s+INTO|UPDATE)\s+(ONLY\s+)?delivery\b|\b(insert|update)\(Delivery\b", re.I)

OTHER_NOUNS = ("domain/events/", "domain/expiry/", "storage/expiry/", "storage/migrations/", "api/schedules/")
"""Point transfers, coupons, campaigns and schedules have statuses of their own; a migration is history."""

GENERAL_WORDS = {SubscriptionStatus.ACTIVE, Reason.TEST, Reason.RETRY}
"""Also names of flags, a variant and an action."""

WORDS = ({*DeliveryStatus, *SubscriptionStatus, *Reason}) - GENERAL_WORDS
IN_SQL = re.compile(
    rf"(?:status|reason)\b[^'\"]{{0,20}}'({'|'.join(sorted({*DeliveryStatus, *SubscriptionStatus, *Reason}))})'"
)

FIGURES = {
    "api/panel/dashboard.py": {"delivered"},  # outcomes of attempts, as names of template values
    "api/panel/expiring.py": {"paused"},  # a box of a form
    "commands/actions/bulk.py": {"delivered"},  # names of answered fields
    "commands/actions/schedules.py": {"paused"},  # state of a schedule
    "api/panel/templates/dashboard/shown.html": {"delivered"},  # outcomes of attempts
    "api/panel/templates/expiring/macros.html": {"paused"},  # state of a schedule
    "api/panel/templates/recover/figures.html": {"cancelled"},  # status of a bulk action
}
"""What is a field of another object by the same word."""


def product_files() -> Iterator[Path]:
    return python_files(*PACKAGES)


def test_every_statement_that_creates_or_changes_a_delivery_stands_in_one_module() -> None:
    found = {path for path in product_files() if CHANGES_DELIVERY.search(path.read_text())}
    assert found == {STATEMENTS}


def test_statuses_and_reasons_are_written_as_members_of_their_enums() -> None:
    offenders = []
    for path in product_files():
        name = str(path.relative_to(ROOT))
        if not name.startswith(OTHER_NOUNS):
            tree = ast.parse(path.read_text())
            offenders += [f"{name}:{line}: {word}" for line, word in literals(tree, WORDS - FIGURES.get(name, set()))]
    for path in sorted((ROOT / "api").rglob("*.html")):
        name = str(path.relative_to(ROOT))
        found = template_literals(path.read_text(), WORDS - FIGURES.get(name, set()))
        offenders += [f"{name}:{line}: {word}" for line, word in found]
    assert offenders == []
    assert [name for name in FIGURES if not (ROOT / name).exists()] == []


def template_literals(source: str, words: set[str]) -> Iterator[tuple[int, str]]:
    """Quoted texts of a template that are one of these words."""
    for number, line in enumerate(source.splitlines(), start=1):
        yield from ((number, word) for word in re.findall(r"[\"'](\w+)[\"']", line) if word in words)


def literals(tree: ast.AST, words: set[str]) -> Iterator[tuple[int, str]]:
    """Constants that are one of these words or hold one in SQL, but for the members of enums."""
    in_enums = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases)
        for value in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in in_enums:
            if node.value in words:
                yield node.lineno, node.value
            elif found := IN_SQL.search(node.value):
                yield node.lineno, found[1]
