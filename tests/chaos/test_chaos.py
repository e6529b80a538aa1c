"""A minute of chaos loses nothing, and the harness can tell when something is lost."""

from pathlib import Path

import pytest

from tests.chaos.defects import RUNS, SEED
from tests.chaos.findings import LENIENT, Findings, examine, promises
from tests.chaos.run import Settings, run
from tests.chaos.timetable import COMPONENTS
from tests.chaos.verdict import NOTICED_BESIDE_TESTS_SECONDS

MINUTE = 60.0


async def found(settings: Settings, folder: Path) -> Findings:
    """What a run's ledger proves."""
    outcome = await run(settings, folder)
    return examine(
        outcome.ledger,
        seed=settings.seed,
        seconds=settings.seconds,
        began_at=outcome.began_at,
        refused=outcome.refused,
        said_of=outcome.said_of,
        noticed_seconds=NOTICED_BESIDE_TESTS_SECONDS,
    )


@pytest.mark.stack
@pytest.mark.timeout(420)
async def test_a_minute_of_kills_stops_and_cut_connections_breaks_no_promise(tmp_path: Path) -> None:
    findings = await found(Settings(SEED, MINUTE, scale=0.25), tmp_path)
    for repeated in findings.duplicates:
        print(repeated)
    assert [promise for promise in promises([findings], LENIENT) if promise.broken] == []
    done = {(one.disturbance.kind, one.disturbance.target) for one in findings.met}
    assert done >= {("kill", component) for component in COMPONENTS} | {("drop", "postgres")}
    assert findings.deliveries > 1_000
    assert findings.faults.keys() > {"ok", "error", "busy", "reset", "hang", "wrong length", "slow"}


@pytest.mark.stack
@pytest.mark.timeout(240)
async def test_an_api_that_acknowledges_before_it_commits_is_found_to_lose(tmp_path: Path) -> None:
    settings = RUNS["acknowledge-before-commit"]
    findings = await found(settings, tmp_path)
    assert findings.kills == 2
    assert len(findings.lost) > 0
    assert [promise.text for promise in promises([findings], LENIENT) if promise.broken] == ["lost"]
