"""Components are kept running with their ports and files, and stopped in order, in time."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local.data_directory import StackError
from local.processes import Component, ProcessIdentity, Supervisor
from tests.deadlines import eventually

SERVE = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); ready(); time.sleep(600)"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(600)"
PRELUDE = """
import os, signal, sys, time
def ready():
    open({mark!r}, "w").close()
"""


@dataclass
class Watched:
    """A supervisor and what it said and published."""

    directory: Path
    said: list[str] = field(default_factory=list)
    published: list[dict[str, int]] = field(default_factory=list)
    unpublishable: bool = False

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.said.append, self._publish)

    def _publish(self) -> None:
        if self.unpublishable:
            raise OSError(28, "No space left on device")
        self.published.append(self.supervisor.pids())

    def component(self, name: str, script: str = SERVE, stop_seconds: float = 5) -> Component:
        """Ready as soon as its script has called `ready()`, which writes the file `{name}.ready`."""
        mark = self.directory / f"{name}.ready"

        async def ready() -> bool:
            return mark.exists()

        return Component(
            name=name,
            title=name.capitalize(),
            command=(sys.executable, "-c", PRELUDE.format(mark=str(mark)) + script),
            environment={},
            directory=self.directory,
            log=self.directory / f"{name}.log",
            ready=ready,
            stop_seconds=stop_seconds,
        )

    def pid(self, name: str) -> int:
        return self.supervisor.pids()[name]

    async def until_new_pid(self, name: str, old: int, seconds: float = 60) -> float:
        """How long it took until another process ran."""
        began = time.monotonic()

        async def changed() -> bool:
            return self.pid(name) != old

        await eventually(changed, seconds, f"{name} was started again")
        return time.monotonic() - began


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    await watched.supervisor.stop(time.monotonic() + 5)


def dead(pid: int) -> bool:
    return ProcessIdentity.of("?", pid) is None


async def test_starting_returns_when_all_are_ready(watched: Watched) -> None:
    await watched.supervisor.start(watched.component("one"), watched.component("other"))
    assert all((watched.directory / f"{name}.ready").exists() for name in ("one", "other"))
    assert watched.published == [{"one": watched.pid("one"), "other": watched.pid("other")}]


async def test_one_that_ends_before_it_was_ready_fails_the_start_with_its_last_words(watched: Watched) -> None:
    async def never() -> bool:
        return False

    failing = Component(
        name="one",
        title="One",
        command=("/bin/sh", "-c", "echo the port is taken >&2; exit 3"),
        environment={},
        directory=watched.directory,
        log=watched.directory / "one.log",
        ready=never,
    )
    with pytest.raises(StackError, match=r"One ended with status 3 before it was ready.*\n.*the port is taken"):
        await watched.supervisor.start(watched.component("other"), failing)


async def test_one_that_does_not_become_ready_fails_the_start(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.processes.READY_WITHIN_SECONDS", 0.3)
    component = watched.component("one")
    component = Component(**{**vars(component), "command": ("/bin/sleep", "600")})
    with pytest.raises(StackError, match="One was not ready within 0 s"):
        await watched.supervisor.start(component)


async def test_a_killed_component_runs_again_within_a_second_every_time_it_had_been_well(watched: Watched) -> None:
    await watched.supervisor.start(watched.component("one"))
    took = []
    for kill in range(1, 4):
        old = watched.pid("one")
        (watched.directory / "one.ready").unlink()
        os.kill(old, signal.SIGKILL)
        took.append(await watched.until_new_pid("one", old))

        async def well() -> bool:
            return (watched.directory / "one.ready").exists()

        await eventually(well, 60, "the new process is ready")

        async def published(times: int = kill) -> bool:
            return len(watched.published) == 1 + times and len(watched.said) == times

        await eventually(published, 60, "the new pid was published and said")
        assert watched.published[-1] == {"one": watched.pid("one")}
        assert watched.said[-1].startswith(f"One (pid {old}) was killed by SIGKILL; started again as pid")
        assert watched.said[-1].endswith("after 0.1 s.")
        assert "\n" not in watched.said[-1]

        async def forgiven() -> bool:
            return watched.supervisor._running["one"].failures == 0

        await eventually(forgiven, 60, "the supervisor saw that it is well")
    assert min(took) < 1


async def test_one_that_keeps_failing_is_started_more_and_more_slowly(watched: Watched) -> None:
    """It fails at once and is never ready again: without a pause it would use up the machine."""
    once = watched.directory / "once"
    script = f"if os.path.exists({str(once)!r}): sys.exit(7)\nopen({str(once)!r}, 'w').close(); {SERVE}"
    await watched.supervisor.start(watched.component("one", script))
    (watched.directory / "one.ready").unlink()
    os.kill(watched.pid("one"), signal.SIGKILL)

    async def three_restarts() -> bool:
        return len(watched.said) >= 3

    await eventually(three_restarts, 20, "three restarts")
    assert [line.rsplit("after ")[1] for line in watched.said[:3]] == ["0.1 s.", "0.5 s.", "1 s."]
    assert "ended with status 7" in watched.said[1]


async def test_supervision_goes_on_when_a_full_disk_keeps_a_pid_from_being_published(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.processes.HOUSEKEEPING_SECONDS", 0.1)
    await watched.supervisor.start(watched.component("one"))
    watched.unpublishable = True
    old = watched.pid("one")
    os.kill(old, signal.SIGKILL)
    await watched.until_new_pid("one", old)

    async def complained() -> bool:
        return any("No space left on device" in line for line in watched.said)

    await eventually(complained, 60, "the trouble was said")
    watched.unpublishable = False

    async def published() -> bool:
        return watched.published[-1] == {"one": watched.pid("one")}

    await eventually(published, 60, "the pid was published later")


async def test_what_started_last_stops_first(watched: Watched) -> None:
    def noting(name: str) -> str:
        return SERVE.replace("sys.exit(0)", f"(open('order', 'a').write('{name} '), sys.exit(0))")

    names = ["postgres", "temporal", "api", "worker"]
    for name in names:
        await watched.supervisor.start(watched.component(name, noting(name)))
    pids = list(watched.supervisor.pids().values())
    assert await watched.supervisor.stop(time.monotonic() + 60) == []
    assert all(dead(pid) for pid in pids)
    assert (watched.directory / "order").read_text().split() == names[::-1]


async def test_one_that_does_not_stop_is_killed_in_time_and_named(watched: Watched) -> None:
    await watched.supervisor.start(
        watched.component("one", stop_seconds=30), watched.component("other", STUBBORN, stop_seconds=0.3)
    )
    pids = list(watched.supervisor.pids().values())
    assert await watched.supervisor.stop(time.monotonic() + 60) == ["Other"]
    assert all(dead(pid) for pid in pids)


async def test_the_common_deadline_is_kept_however_patient_each_one_is(watched: Watched) -> None:
    stubborn = [watched.component(name, STUBBORN, stop_seconds=60) for name in ("one", "two", "three")]
    await watched.supervisor.start(*stubborn)
    began = time.monotonic()
    assert await watched.supervisor.stop(began + 0.5) == ["Three", "Two", "One"]
    assert time.monotonic() - began < 30  # each alone would have taken 60


async def test_nothing_is_started_again_while_stopping(watched: Watched) -> None:
    await watched.supervisor.start(watched.component("one"))
    os.kill(watched.pid("one"), signal.SIGKILL)
    published = len(watched.published)
    await watched.supervisor.stop(time.monotonic() + 5)
    assert watched.supervisor.pids() == {}
    assert len(watched.published) == published
    assert not [task for task in asyncio.all_tasks() if "Supervisor" in repr(task)]


async def test_everything_can_be_killed_at_once(watched: Watched) -> None:
    await watched.supervisor.start(watched.component("one", STUBBORN, stop_seconds=60))
    watched.supervisor.kill()
    began = time.monotonic()
    await watched.supervisor.stop(began + 60)
    assert time.monotonic() - began < 10
