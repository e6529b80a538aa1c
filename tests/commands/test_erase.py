"""`erase` leaves nothing of a customer here, touches nobody else, and proves it."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from tests.commands.running import Ended, run
from tests.deadlines import eventually
from tests.ground import STORE, Ground
from tests.pipeline import pipeline
from tests.receiver import Receiver, status
from tests.temporal_server import activity_is_there

CUSTOMER, OTHER = uuid4(), uuid4()


EMIT_MEANWHILE = f"""
CREATE FUNCTION emit_meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM event) < 3 THEN
        WITH inserted AS (
            INSERT INTO event (store_code, event_id, name, created_at, created_at_text, digest)
            VALUES ('{STORE}', gen_random_uuid(), 'CustomerUpdated', now(), '2026-01-02T03:04:05Z', '')
            RETURNING accepted_on, store_code, event_id
        )
        INSERT INTO event_body (accepted_on, store_code, event_id, data)
        SELECT accepted_on, store_code, event_id, '{{"customer":{{"customerId":"{CUSTOMER}"}}}}' FROM inserted;
    END IF;
    RETURN NULL;
END $$
"""


class Erasing:
    """The command over the test's database."""

    def __init__(self, url: str, directory: Path) -> None:
        self._environment = {"DATABASE_URL": url, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
        self._directory = directory

    async def run(self, *options: str, customer: UUID = CUSTOMER, store: str = STORE) -> Ended:
        return await run(
            *("erase", "--store", store, "--customer", str(customer), *options),
            directory=self._directory,
            environment=self._environment,
        )

    async def report(self, *options: str, customer: UUID = CUSTOMER) -> dict[str, Any]:
        ended = await self.run("--yes", "--json", *options, customer=customer)
        assert ended.code == 0, ended.errors
        report: dict[str, Any] = json.loads(ended.output)
        return report


@pytest.fixture
def erasing(cleared_url: str, tmp_path: Path) -> Erasing:
    return Erasing(cleared_url, tmp_path)


def about(customer: UUID | str) -> str:
    return f'{{"customer":{{"customerId":"{customer}"}}}}'


async def delivered(ground: Ground, event: UUID, state: str, excerpt: str | None = "thank you, Ada") -> None:
    await ground.execute(
        """
        WITH made AS (
            INSERT INTO delivery (message_id, store_code, event_id, event_name, accepted_on, subscription_id, variant,
                url, status, attempts)
            SELECT gen_random_uuid(), store_code, event_id, name, accepted_on, gen_random_uuid(), 'main',
                'https://receiver.example/hook', :state, 1
            FROM event WHERE event_id = :event RETURNING accepted_on, message_id
        )
        INSERT INTO attempt (accepted_on, message_id, number, request_id, trigger, worker_id, legacy, response_excerpt)
        SELECT accepted_on, message_id, 1, message_id, 'automatic', message_id, false, :excerpt FROM made
        """,
        event=event,
        state=state,
        excerpt=excerpt,
    )


async def expiring(ground: Ground, customer: UUID) -> None:
    await ground.execute(
        """
        INSERT INTO member_level (store_code, customer_id, updated_at, customer_email)
        VALUES (:store, :customer, now(), 'ada@mail.example')
        """,
        store=STORE,
        customer=customer,
    )


async def test_nothing_of_the_customer_is_left_and_everything_of_others(erasing: Erasing, ground: Ground) -> None:
    await ground.execute("TRUNCATE audit, member_level")
    [sent, waiting] = await ground.emit("CustomerUpdated", about(CUSTOMER), count=2)
    [capital] = await ground.emit("CustomerUpdated", about(str(CUSTOMER).upper()))
    [other] = await ground.emit("CustomerUpdated", about(OTHER))
    for event, state in ((sent, "delivered"), (waiting, "held"), (capital, "exhausted"), (other, "held")):
        await delivered(ground, event, state)
    for customer in (CUSTOMER, OTHER):
        await expiring(ground, customer)
    report = await erasing.report()
    assert sorted(report["eventIds"]) == sorted(map(str, (sent, waiting, capital)))
    counts = {name: report[name] for name in ("events", "deliveriesCancelled", "attemptsCleared", "left")}
    assert counts == {"events": 3, "deliveriesCancelled": 1, "attemptsCleared": 3, "left": 0}
    assert report["sentTo"] == {"https://receiver.example/hook": 3}
    assert report["expiryRows"]["member_level"] == 1
    for table in ("event_body", "delivery", "attempt", "member_level", "audit"):
        rows = await ground.execute(f"SELECT lower(CAST(x AS text)) FROM {table} AS x")
        assert str(CUSTOMER) not in str(rows), table
    assert [row.event_id for row in await ground.execute("SELECT event_id FROM event_body")] == [other]
    excerpts = await ground.execute("SELECT response_excerpt FROM attempt WHERE response_excerpt IS NOT NULL")
    assert [row[0] for row in excerpts] == ["thank you, Ada"]
    assert await ground.statuses() == {"delivered": 1, "cancelled": 1, "exhausted": 1, "held": 1}
    marked = await ground.execute("SELECT event_id FROM event WHERE erased_at IS NOT NULL")
    assert {row.event_id for row in marked} == {sent, waiting, capital}


async def test_a_dry_run_counts_and_erases_nothing(erasing: Erasing, ground: Ground) -> None:
    [event] = await ground.emit("CustomerUpdated", about(CUSTOMER))
    await delivered(ground, event, "held")
    report = await erasing.report("--dry-run")
    assert (report["events"], report["dryRun"], report["eventIds"]) == (1, True, [str(event)])
    assert (report["deliveriesCancelled"], report["attemptsCleared"], report["left"]) == (1, 1, None)
    assert await ground.statuses() == {"held": 1}
    assert await ground.scalar("SELECT count(*) FROM event_body") == 1
    assert await ground.scalar("SELECT count(*) FROM event WHERE erased_at IS NOT NULL") == 0


async def test_it_may_be_run_again_and_its_report_goes_to_a_file(
    erasing: Erasing, ground: Ground, tmp_path: Path
) -> None:
    await ground.emit("CustomerUpdated", about(CUSTOMER), count=500)
    ended = await erasing.run("--yes", "--report", "proof.json")
    assert (ended.code, "500" in ended.output) == (0, True)
    assert json.loads((tmp_path / "proof.json").read_text())["events"] == 500
    again = await erasing.report()
    assert (again["events"], again["left"]) == (0, 0)


async def test_a_report_that_cannot_be_written_is_refused_before_anything_is_erased(
    erasing: Erasing, ground: Ground
) -> None:
    await ground.emit("CustomerUpdated", about(CUSTOMER))
    ended = await erasing.run("--yes", "--report", "nowhere/proof.json")
    assert ended.code == 2
    assert "nowhere/proof.json cannot be written: No such file or directory. Nothing was done." in ended.errors
    assert await ground.scalar("SELECT count(*) FROM event_body") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has the device of a full disk")
async def test_a_report_that_a_full_disk_refuses_is_printed(erasing: Erasing, ground: Ground) -> None:
    [event] = await ground.emit("CustomerUpdated", about(CUSTOMER))
    ended = await erasing.run("--yes", "--report", "/dev/full")
    assert ended.code == 1
    assert "/dev/full could not be written: No space left on device" in ended.errors
    summary, _, printed = ended.output.partition("{")
    assert summary.startswith("events")
    assert json.loads("{" + printed)["eventIds"] == [str(event)]


async def test_the_next_run_clears_responses_that_came_after_the_end_of_an_earlier_one(
    erasing: Erasing, ground: Ground
) -> None:
    [event] = await ground.emit("CustomerUpdated", about(CUSTOMER))
    await delivered(ground, event, "delivered")
    await erasing.report()
    await ground.execute("UPDATE attempt SET response_excerpt = 'sorry for the delay, Ada'")
    await erasing.report()
    assert await ground.scalar("SELECT response_excerpt FROM attempt") is None


async def test_it_goes_on_until_nothing_is_left_and_reports_once(
    erasing: Erasing, ground: Ground, tmp_path: Path
) -> None:
    """The platform emits two more events of the customer while the first is erased."""
    await ground.execute(EMIT_MEANWHILE)
    await ground.execute("CREATE TRIGGER meanwhile AFTER DELETE ON event_body EXECUTE FUNCTION emit_meanwhile()")
    try:
        await ground.emit("CustomerUpdated", about(CUSTOMER))
        ended = await erasing.run("--yes", "--report", "proof.json")
        assert ended.code == 0, ended
        assert ended.output.split()[-5:] == ["3", "0", "0", "0", "0"]
        assert len(json.loads((tmp_path / "proof.json").read_text())["eventIds"]) == 3
        assert await ground.scalar("SELECT count(*) FROM event_body") == 0
    finally:
        await ground.execute("DROP TRIGGER meanwhile ON event_body")


async def test_a_report_of_an_earlier_run_is_kept_and_a_run_that_fails_leaves_no_file(
    erasing: Erasing, ground: Ground, tmp_path: Path
) -> None:
    await ground.emit("CustomerUpdated", about(CUSTOMER))
    assert (await erasing.run("--yes", "--report", "proof.json", store="elsewhere")).code == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "proof.json").write_text("of an earlier run")
    ended = await erasing.run("--yes", "--report", "proof.json")
    assert (ended.code, "proof.json cannot be written: File exists. Nothing was done." in ended.errors) == (2, True)
    assert (tmp_path / "proof.json").read_text() == "of an earlier run"
    assert await ground.scalar("SELECT count(*) FROM event_body") == 1


async def test_it_asks_and_a_wrong_store_or_id_is_told_apart(erasing: Erasing, ground: Ground) -> None:
    await ground.emit("CustomerUpdated", about(CUSTOMER))
    asked = await erasing.run()  # nobody is there to say yes
    assert asked.code == 1
    assert re.search(r"in store \S+ of postgresql://[^@/]+/\w+\?", asked.errors)
    assert (await erasing.run("--yes", store="elsewhere")).code == 2
    assert await ground.scalar("SELECT count(*) FROM event_body") == 1


async def test_what_waits_for_a_retry_is_not_sent_again(
    erasing: Erasing, ground: Ground, cleared_url: str, temporal: WorkflowEnvironment
) -> None:
    async with Receiver() as receiver:
        receiver.script(status(503))
        async with pipeline(cleared_url, temporal.client, retry_schedule_seconds=(12, 12)) as running:
            await running.subscribe("CustomerUpdated", receiver.url("/hook"))
            await running.emit("CustomerUpdated", about(CUSTOMER))
            await running.until_statuses({"pending": 1})
            [delivery] = await running.deliveries()
            retry_id = f"{delivery.message_id}/1"
            await eventually(lambda: activity_is_there(temporal.client, retry_id), 20, "the activity of the retry")
            report = await erasing.report()
            assert report["deliveriesCancelled"] == 1
            assert (await temporal.client.get_activity_handle(retry_id).result())["status"] == "cancelled"
            assert len(receiver.requests) == 1
            assert await running.statuses() == {"cancelled": 1}
