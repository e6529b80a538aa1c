"""Distribution of the tests over the processes of pytest-xdist: whole files, longest first, two stacks at a time."""

from collections.abc import Iterable
from functools import cache

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.house import ROOT

STACK_LANES = 2
"""Maximum number of stack tests at a time. A stack is six processes that mostly wait; a third one on two cores makes
starts and recoveries overrun their deadlines."""

SECONDS = {
    "tests/api/test_credentials.py": 10,
    "tests/api/test_examples.py": 30,
    "tests/api/test_schemathesis.py": 60,
    "tests/chaos/test_chaos.py": 110,
    "tests/e2e/test_authentication.py": 25,
    "tests/e2e/test_recovery_kills.py": 30,
    "tests/e2e/test_rolling_restart.py": 35,
    "tests/e2e/test_traces.py": 20,
    "tests/e2e/test_up.py": 100,
    "tests/e2e/test_version_before.py": 7,
    "tests/e2e/test_worker_kills.py": 40,
    "tests/model/test_protocol.py": 15,
    "tests/panel/browser": 120,
    "tests/panel/test_rights.py": 15,
    "tests/replay/test_replay.py": 25,
    "tests/sending/drain/test_round.py": 30,
    "tests/storage/test_delivery_log.py": 25,
    "tests/test_operating.py": 60,
    "tests/test_worker.py": 20,
    "tests/workflows/test_drain.py": 35,
    "tests/workflows/test_limits.py": 45,
    "tests/workflows/test_order.py": 40,
}
"""Approximate seconds of the longest files. They start first, so that none of them begins when the others are done."""

OTHER_SECONDS = 5

ONE_UNIT = "tests/panel/browser"
"""Folder whose files share one stack and one browser, and therefore run in one process."""


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Run the tests of a file in one process, and the files that start stacks in `STACK_LANES` processes.

    The `loadgroup` of pytest-xdist cannot do this: with pytest 9.2 it does not see its groups.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # the collected order is the one of `longest_first`
        super().__init__(config, log)
        self._lanes: dict[str, str] = {}

    def schedule(self) -> None:
        """Assign the collected files to lanes before the first distribution."""
        if self.collection is None and self.collection_is_completed:
            self._lanes = lanes(_unit(nodeid) for nodeid in next(iter(self.registered_collections.values())))
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        unit = _unit(nodeid)
        return self._lanes.get(unit, unit)


def longest_first(items: list[pytest.Item]) -> None:
    """Order the tests of a parallel run: files that start stacks, then the others, the longest first in each."""
    items.sort(key=lambda item: _precedence(_unit(item.nodeid)))


def lanes(units: Iterable[str]) -> dict[str, str]:
    """Return the lane of each unit that starts stacks; the lanes take about the same time."""
    seconds = dict.fromkeys((f"stack lane {number + 1}" for number in range(STACK_LANES)), 0)
    assigned = {}
    for unit in sorted({unit for unit in units if _starts_stacks(unit)}, key=_precedence):
        lane = min(seconds, key=lambda name: seconds[name])
        seconds[lane] += SECONDS.get(unit, OTHER_SECONDS)
        assigned[unit] = lane
    return assigned


def _unit(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return ONE_UNIT if file.startswith(f"{ONE_UNIT}/") else file


def _precedence(unit: str) -> tuple[bool, int, str]:
    return not _starts_stacks(unit), -SECONDS.get(unit, OTHER_SECONDS), unit


@cache
def _starts_stacks(unit: str) -> bool:
    return unit == ONE_UNIT or "pytest.mark.stack" in (ROOT / unit).read_text(encoding="utf-8")
