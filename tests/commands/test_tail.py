"""`tail` shows each outcome once, live and filtered."""

import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT
from typing import Any
from uuid import UUID, uuid4

import pytest

from commands.tail import PAGE_ITEMS, _show, read_status
from domain.delivery.lifecycle import DeliveryStatus
from tests.api.installation import installation
from tests.api.serving import serving
from tests.commands.running import lines_until, run, running
from tests.ground import STORE, Ground


async def delivery(ground: Ground, name: str, status: str, attempts: int = 0) -> UUID:
    """Insert a delivery to a subscription of its own, without its event."""
    message_id, url = uuid4(), "https://receiver.example/hook"
    subscription = await ground.subscribe(name, url)
    await ground.execute(
        """
        INSERT INTO delivery (message_id, store_code, event_id, event_name, accepted_on, subscription_id, variant, url,
            status, attempts)
        VALUES (:id, :store, :id, :name, current_date, :subscription, 'main', :url, :status, :attempts)
        """,
        id=message_id,
        store=STORE,
        name=name,
        subscription=subscription,
        url=url,
        status=status,
        attempts=attempts,
    )
    return message_id


@asynccontextmanager
async def tailing(directory: Path, root: str, key: str, *options: str) -> AsyncIterator[Process]:
    arguments = ("tail", "--api", root, "--key", key, "--store", STORE, "--json", *options)
    async with running(*arguments, directory=directory) as process:
        yield process


async def next_one(process: Process, message_id: UUID) -> dict[str, Any]:
    """The next line, which must be of this delivery."""
    [line] = await lines_until(process, str(message_id))
    found: dict[str, Any] = json.loads(line)
    return found


async def test_each_outcome_is_a_line_as_it_happens_filtered(ground: Ground, cleared_url: str, tmp_path: Path) -> None:
    waiting = await delivery(ground, "CustomerUpdated", "pending", 1)
    for _ in range(PAGE_ITEMS):  # so that it is not on the first page
        await delivery(ground, "CustomerUpdated", "held")
    await delivery(ground, "CustomerUpdated", "delivered", 1)
    async with (
        installation(cleared_url) as installed,
        serving(installed.app) as root,
        tailing(tmp_path, root, installed.admin_key, "--event", "CustomerUpdated") as process,
    ):
        assert process.stderr is not None
        assert b"Ctrl-C" in await process.stderr.readline()
        await delivery(ground, "CustomerDeactivated", "delivered", 1)
        in_progress = await delivery(ground, "CustomerUpdated", "pending")
        await ground.execute(
            "UPDATE delivery SET status = 'exhausted', attempts = 2, ended_at = now() WHERE message_id = :id",
            id=waiting,
        )
        assert (await next_one(process, waiting))["status"] == "exhausted"
        await ground.execute(
            "UPDATE delivery SET status = 'delivered', attempts = 1, ended_at = now() WHERE message_id = :id",
            id=in_progress,
        )
        assert (await next_one(process, in_progress))["status"] == "delivered"
        process.send_signal(SIGINT)
        output, errors = await process.communicate()
        assert (process.returncode, output, errors) == (0, b"", b"")


async def test_a_delivery_that_had_ended_is_shown_when_it_is_sent_again(
    ground: Ground, cleared_url: str, tmp_path: Path
) -> None:
    # The oldest is not on the watched page until another one leaves it.
    hidden, *_, redelivered, recovered = [
        await delivery(ground, "CustomerUpdated", "exhausted", 1) for _ in range(PAGE_ITEMS + 1)
    ]
    async with (
        installation(cleared_url) as installed,
        serving(installed.app) as root,
        tailing(tmp_path, root, installed.admin_key) as process,
    ):
        assert process.stderr is not None
        assert b"Ctrl-C" in await process.stderr.readline()
        await ground.execute("UPDATE delivery SET attempts = 2 WHERE message_id = :id", id=redelivered)
        assert (await next_one(process, redelivered))["attempts"] == 2
        await ground.execute("UPDATE delivery SET status = 'held' WHERE message_id = :id", id=recovered)
        assert (await next_one(process, recovered))["status"] == "held"
        await ground.execute(
            "UPDATE delivery SET status = 'delivered', attempts = 2 WHERE message_id = :id", id=recovered
        )
        assert (await next_one(process, recovered))["status"] == "delivered"
        await ground.execute("UPDATE delivery SET attempts = 3 WHERE message_id = :id", id=hidden)
        assert (await next_one(process, hidden))["attempts"] == 3


async def test_a_new_reason_or_due_instant_of_the_same_status_is_one_line(
    ground: Ground, cleared_url: str, tmp_path: Path
) -> None:
    held, waiting = [await delivery(ground, "CustomerUpdated", status) for status in ("held", "pending")]
    change = "UPDATE delivery SET reason = :reason, next_attempt_at = now() + make_interval(secs => :due_in)"
    await ground.execute(change, reason=None, due_in=1.5)
    async with (
        installation(cleared_url) as installed,
        serving(installed.app) as root,
        tailing(tmp_path, root, installed.admin_key) as process,
    ):
        assert process.stderr is not None
        assert b"Ctrl-C" in await process.stderr.readline()
        one = f"{change} WHERE message_id = :id"
        await ground.execute(one, reason="breaker_open", due_in=1.5, id=held)
        assert (await next_one(process, held))["reason"] == "breaker_open"
        await ground.execute(one, reason="subscription_paused", due_in=-60, id=held)
        assert (await next_one(process, held))["reason"] == "subscription_paused"
        await ground.execute(one, reason=None, due_in=60, id=waiting)  # overdue by now, which was no line
        assert (await next_one(process, waiting))["nextAttemptAt"] is not None
        process.send_signal(SIGINT)
        assert await process.communicate() == (b"", b"")


@pytest.mark.parametrize("written", ["exhausted", "gave up", "gave-up", "Gave-Up"])
def test_a_status_may_be_written_as_it_is_shown(written: str) -> None:
    assert read_status(written) is DeliveryStatus.EXHAUSTED


async def test_a_misspelt_status_is_answered_with_those_there_are(tmp_path: Path) -> None:
    environment = {"LOYALTY_WEBHOOKS_API": "http://127.0.0.1:9", "LOYALTY_WEBHOOKS_KEY": "k"}
    ended = await run("tail", "--status", "failed", directory=tmp_path, environment=environment)
    assert ended.code == 2
    assert "waiting, held, delivered, gave-up" in " ".join(ended.errors.replace("│", " ").split())


@pytest.mark.parametrize("command", [("tail", "--event", "CustomerUpdatd"), ("emit", "CustomerUpdatd", "--sample")])
async def test_a_misspelt_event_is_answered_with_the_nearest_name(tmp_path: Path, command: tuple[str, ...]) -> None:
    environment = {"LOYALTY_WEBHOOKS_API": "http://127.0.0.1:9", "LOYALTY_WEBHOOKS_KEY": "k"}
    ended = await run(*command, directory=tmp_path, environment=environment)
    assert ended.code == 2
    assert "did you mean CustomerUpdated?" in " ".join(ended.errors.replace("│", " ").split())


def test_a_line_has_words_and_the_codes_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    ended = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat()
    names = {"eventName": "CustomerUpdated", "url": "https://receiver.example.com/", "messageId": str(uuid4())}
    answered = {"status": "exhausted", "lastStatusCode": 503, "lastFailure": "http_5xx", "attempts": 10}
    _show({**names, **answered, "endedAt": ended, "nextAttemptAt": None})
    line = capsys.readouterr().out
    assert "gave up    failed (503 server error, http_5xx)  attempt 10  CustomerUpdated" in line
    assert names["messageId"] in line
    waiting = {"lastStatusCode": None, "lastFailure": None, "attempts": 0, "endedAt": None, "nextAttemptAt": None}
    for status, reason, shown in (
        ("held", "limited", "held: rate, concurrency or order limit  CustomerUpdated"),
        ("held", "subscription_paused", "held: webhook paused  CustomerUpdated"),
        ("cancelled", "of_later_version", "cancelled: of later version  CustomerUpdated"),
    ):
        _show({**names, **waiting, "status": status, "reason": reason})
        assert shown in capsys.readouterr().out
