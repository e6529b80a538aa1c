"""The attacks can tell when something is let in."""

from pathlib import Path
from random import Random

import pytest

from telemetry import connections
from tests.api.installation import installation
from tests.api.serving import serving
from tests.api.test_connections import NOWHERE, TOO_LARGE
from tests.attack import api
from tests.attack.__main__ import missed
from tests.attack.api import Target, large_heads


@pytest.mark.parametrize("bounded", [True, False], ids=["bounds", "no bounds"])
async def test_heads_are_let_in_without_the_bounds_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bounded: bool
) -> None:
    monkeypatch.setattr(api, "ENDLESS", {})
    if not bounded:
        for name in ("MOST_PART_BYTES", "MOST_HEAD_BYTES", "MOST_HEADERS"):
            monkeypatch.setattr(connections, name, 1_000_000)
    async with installation(NOWHERE) as installed, serving(installed.app) as root:
        tried = await large_heads(Target(root, "", tmp_path, Random(1), 0.2))
    assert (tried.cases, sorted(tried.let_in)) == (len(TOO_LARGE), [] if bounded else sorted(TOO_LARGE))


@pytest.mark.parametrize(
    ("load", "let_in", "healthz_ms", "ratio", "goals"),
    [
        (0.5, 0, 99.0, 2.9, 0),
        (0.5, 1, 99.0, 2.9, 1),
        (0.5, 0, 101.0, 2.9, 1),
        (0.5, 0, 99, 3.1, 1),
        (5, 0, 101, 2.9, 0),
    ],
    ids=["kept", "let in", "held", "starved", "on a busy machine"],
)
def test_a_missed_goal_is_said(load: float, let_in: int, healthz_ms: float, ratio: float, goals: int) -> None:
    held = {"name": "heads", "let_in": let_in, "healthz_ms": healthz_ms}
    starved = {"name": "receivers", "let_in": 0, "neighbour": {"worst_p99_ratio_to_polite": ratio, "worst": "trickles"}}
    result = {"machine": {"load_before": load, "cores": 2}, "attacks": [held, starved]}
    assert len(missed(result)) == goals
