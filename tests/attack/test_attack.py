"""The attacks can tell when something is let in."""

from pathlib import Path
from random import Random

import pytest

from api.serving import connections
from tests.api.installation import installation
from tests.api.serving import serving
from tests.api.test_connections import NOWHERE, TOO_LARGE
from tests.attack import api
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
