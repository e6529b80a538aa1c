"""A worker process as a whole: it stops in order, goes on whole or not at all, and is taken for dead when it is."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

import worker
from relay.relay import Relay
from sending.lease import lease
from sending.recorder import Recorder
from tests.commands.running import few_descriptors, has_raised_descriptors
from tests.deadlines import eventually
from tests.ground import Ground
from tests.house import ROOT
from tests.pipeline import ENCRYPTION_KEY, pipeline, settings_for
from tests.receiver import Receiver, status, when
from tests.tcp_proxy import TcpProxy, tcp_proxy
from tests.workbench import workbench

EXIT_SECONDS = 30


class WorkerProcess:
    """A worker as `loyalty-webhooks worker` starts it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def exit_code(self) -> int:
        async with asyncio.timeout(EXIT_SECONDS):
            return await self._process.wait()


@asynccontextmanager
async def worker_process(
    database_url: str, temporal: WorkflowEnvironment, task_queue: str, ground: Ground
) -> AsyncIterator[WorkerProcess]:
    """One worker process, once it has said that it lives; killed when the block ends."""
    before = await workers(ground)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from cli import main; main()", "worker"),
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "ENCRYPTION_KEYS": ENCRYPTION_KEY,
            "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
            "TASK_QUEUE": task_queue,
            "ALLOW_HTTP": "true",
            # A stopped process must not find its request timed out when it goes on; taking over can take 15 s.
            "REQUEST_TIMEOUT_SECONDS": "30",
            "ALLOWED_PORTS": "",
            "ALLOWED_NETWORKS": "127.0.0.0/8",
            "LOG_LEVEL": "ERROR",
        },
        preexec_fn=few_descriptors,
    )
    try:
        await eventually(lambda: more_workers(ground, before), 40, "the worker says that it lives")
        assert has_raised_descriptors(process.pid)
        yield WorkerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def workers(ground: Ground) -> int:
    return int(await ground.scalar("SELECT count(*) FROM worker"))


async def more_workers(ground: Ground, before: int) -> bool:
    return await workers(ground) > before


async def test_sigterm_finishes_what_is_under_way_and_leaves_nothing_behind(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    gate = asyncio.Event()
    async with Receiver() as receiver, worker_process(cleared_url, temporal, f"stop-{uuid4()}", ground) as process:
        receiver.otherwise = when(gate, status(200))
        await ground.subscribe("CustomerUpdated", receiver.url("/hook"))
        await ground.emit("CustomerUpdated", "{}", 30)
        await receiver.wait_for(30, within=40)
        process.signal(signal.SIGTERM)
        await ground.emit("CustomerUpdated", "{}", 3)
        asyncio.get_running_loop().call_later(0.5, gate.set)
        assert await process.exit_code() == 0
    left = await ground.scalar("SELECT count(*) FROM event WHERE matched_at IS NULL")
    assert await ground.statuses() == {"delivered": 33 - left}
    assert len(receiver.requests) == 33 - left
    assert await ground.scalar("SELECT count(*) FROM attempt WHERE outcome_at IS NULL") == 0
    assert await workers(ground) == 0, "its leases are given up"


async def test_a_stopped_worker_counts_as_dead_and_its_late_word_is_recorded(
    ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    gate = asyncio.Event()
    queue = f"stopped-{uuid4()}"
    async with Receiver() as receiver, worker_process(cleared_url, temporal, queue, ground) as stopped:
        receiver.script(when(gate, status(200)))
        await ground.subscribe("CustomerUpdated", receiver.url("/hook"))
        await ground.emit("CustomerUpdated", "{}")
        await receiver.wait_for(1, within=40)
        stopped.signal(signal.SIGSTOP)
        async with pipeline(cleared_url, temporal.client, task_queue=queue):
            await ground.until_statuses({"delivered": 1}, 60)
            [delivery] = await ground.deliveries()
            attempts = await ground.attempts(delivery.message_id)
            assert [(one.number, one.failure, one.status_code) for one in attempts] == [
                (1, "interrupted", None),
                (2, None, 200),
            ]
            gate.set()
            stopped.signal(signal.SIGCONT)

            async def late_word() -> bool:
                [first, second] = await ground.attempts(delivery.message_id)
                # Its response, or a time-out if the stop has lasted for longer than that.
                late = (first.failure, first.status_code) in ((None, 200), ("timeout", None))
                return late and second.status_code == 200

            await eventually(late_word, 30, "the stopped worker's outcome is recorded")
            assert await ground.statuses() == {"delivered": 1}
            stopped.signal(signal.SIGTERM)
            assert await stopped.exit_code() == 0
    assert len(receiver.requests) == 2


@pytest.fixture
async def _handlers() -> AsyncIterator[None]:
    """`worker.run` takes the process's signals; give them back."""
    yield
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize(("part", "method"), [(Relay, "_claim_waiting"), (Relay, "_claim_lapsed"), (Recorder, "run")])
async def test_a_worker_does_not_go_on_without_a_part(
    cleared_url: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, part: type, method: str
) -> None:
    async def mistake(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(part, method, mistake)
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal.client.service_client.config.target_host)
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(EXIT_SECONDS):
            await worker.run(settings_for(cleared_url))
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=EXIT_SECONDS)
    assert [task for task in left if not task.done()] == []


async def stopped_more(proxy: TcpProxy, since: int) -> bool:
    """Whether the proxy has refused or held back anything since."""
    return proxy.refused + proxy.held_back > since


async def seen_at(ground: Ground) -> float:
    return float(await ground.scalar("SELECT coalesce(extract(epoch FROM max(seen_at)), 0) FROM worker"))


async def seen_after(ground: Ground, instant: float) -> bool:
    return await seen_at(ground) > instant


async def test_a_worker_whose_connections_are_all_taken_still_says_that_it_lives(
    ground: Ground, cleared_url: str
) -> None:
    async with (
        workbench(cleared_url, database_pool_size=3) as bench,
        bench.database.transaction(),
        bench.database.transaction(),
    ):
        await eventually(lambda: seen_after(ground, 0), 30, "seen")
        now = await seen_at(ground)
        await eventually(lambda: seen_after(ground, now), 30, "seen again")


async def test_a_worker_says_that_it_lives_again_when_the_database_is_back(ground: Ground, cleared_url: str) -> None:
    parts = urlsplit(cleared_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with tcp_proxy(parts.hostname, parts.port) as proxy:
        user, _, _ = parts.netloc.rpartition("@")
        url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}"))
        async with lease(settings_for(url).database_url.get_secret_value(), uuid4()):
            await eventually(lambda: seen_after(ground, 0), 30, "seen")
            for fault in ("cut", "freeze"):
                before = proxy.refused + proxy.held_back
                proxy.cut(refuse=True) if fault == "cut" else proxy.freeze()
                await eventually(lambda since=before: stopped_more(proxy, since), 30, f"a touch met the {fault}")  # type: ignore[misc]
                now = await seen_at(ground)
                proxy.mend()
                await eventually(lambda since=now: seen_after(ground, since), 30, f"seen after {fault}")  # type: ignore[misc]
        assert await workers(ground) == 0
