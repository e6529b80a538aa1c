"""A backup taken under load and restored beside an empty Temporal delivers all it holds, once `reconcile` was run."""

import asyncio
import json
from collections import Counter
from pathlib import Path

from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from local.postgres import own_programs
from storage.database import Database
from storage.deliveries.bulk_actions import BulkActionKind
from temporal.versions import deployment_version, promote
from tests.bulk_actions import begun_bulk_action
from tests.commands.running import Ended, run
from tests.databases import empty_database
from tests.ground import Ground
from tests.pipeline import pipeline
from tests.receiver import Receiver, status
from tests.temporal_server import real_server

EVENTS = 300
FAILING = 8  # fewer than open the breaker
RETRY_SECONDS = (12, 12)
"""Long enough that the backup has deliveries that wait."""


async def postgres_program(name: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(own_programs() / name, *arguments)
    assert await process.wait() == 0


async def reconciled(directory: Path, url: str, temporal: WorkflowEnvironment, queue: str, *options: str) -> Ended:
    environment = {
        "DATABASE_URL": url,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
        "TASK_QUEUE": queue,
    }
    ended = await run("reconcile", *options, directory=directory, environment=environment)
    assert ended.code == 0, ended.errors
    return ended


def counts(ended: Ended) -> list[list[int]]:
    """Of deliveries, then of recoveries and backfills: how many run, how many do not."""
    rows = [line.split() for line in ended.output.splitlines() if line.strip().startswith(("deliveries", "recoveries"))]
    return [[int(word) for word in row[-2:]] for row in rows]


async def test_a_restored_backup_delivers_all_it_holds_and_repeats_only_what_it_did_not_know(
    cleared_url: str, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    backup = str(tmp_path / "backup")
    async with Receiver() as receiver, real_server() as empty, empty_database() as restored_url:
        receiver.script(*[status(503)] * FAILING, path="/failing")
        async with pipeline(cleared_url, temporal.client, retry_schedule_seconds=RETRY_SECONDS) as before:
            await before.subscribe("CustomerUpdated", receiver.url("/hook"))
            failing = await before.subscribe("CustomerRegistered", receiver.url("/failing"))
            await before.emit("CustomerRegistered", '{"customer":{}}', FAILING)
            await receiver.wait_for(FAILING)
            await begun_bulk_action(before, BulkActionKind.RECOVER, failing, 0)
            await before.emit("CustomerUpdated", "{}", EVENTS)
            backing_up = asyncio.create_task(
                postgres_program("pg_dump", "--format=custom", f"--file={backup}", cleared_url)
            )
            while not backing_up.done():
                await before.emit("CustomerUpdated", "{}", 20)
            await backing_up
        await postgres_program("pg_restore", "--no-owner", f"--dbname={restored_url}", backup)
        restored = Ground(Database(restored_url, pool_size=1))
        events = await restored.scalar("SELECT count(*) FROM event")
        known = await restored.execute("SELECT message_id FROM delivery WHERE status = 'delivered'")
        waiting = await restored.scalar("SELECT count(*) FROM delivery WHERE status = 'pending'")
        await restored.database.close()
        assert events >= EVENTS + FAILING
        assert waiting >= FAILING
        options = {"retry_schedule_seconds": RETRY_SECONDS, "worker_build_id": "one"}
        async with pipeline(restored_url, empty.client, **options) as after:
            queue = after.settings.task_queue
            await promote(empty.client, deployment_version(queue, "one"))
            looked = await reconciled(tmp_path, restored_url, empty, queue, "--dry-run")
            assert counts(looked)[1] == [0, 1]
            started = await reconciled(tmp_path, restored_url, empty, queue)
            assert counts(started)[0][1] >= FAILING
            await after.until_statuses({"delivered": events}, 60)
            again = await reconciled(tmp_path, restored_url, empty, queue)
            assert counts(again)[0] == [0, 0]
        answered = Counter(json.loads(one.body)["messageId"] for one in receiver.requests if one.target == "/hook")
        assert all(answered[str(row.message_id)] == 1 for row in known)
        assert max(answered.values()) <= 2
