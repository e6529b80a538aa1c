"""Texts of a server, or of a receiver that it quotes, do not control the terminal of a command."""

import io
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from rich.console import Console
from sqlalchemy import text

from local.screen import Screen
from storage.database import Database
from tests.commands.running import lines_until, run, running
from tests.receiver import Receiver, Reply, status

HOSTILE = "x\rgone\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\u202egnp.exe[link=http://evil.example.com]y[/link]ł"
ESCAPED = "gone\\u001b]0;owned"
ID = str(uuid4())
AT = "2026-01-02T03:04:05+00:00"
NAMES = (
    "code text remedy temporalUrl url name eventName eventId reason workflowId status lastFailure lastStatusCode "
    "messageId lastAnswerMessageId day"
)
TEXTS = dict.fromkeys(NAMES.split(), HOSTILE)
SCAN = {"scanId": ID, "day": HOSTILE, "origin": "manual", "finishedAt": AT} | dict.fromkeys(
    ("scanned", "emitted", "known", "dropped", "refused", "emittedPerSecond"), 1
)
SCHEDULE = TEXTS | {
    **{"kind": HOSTILE, "state": "paused", "note": HOSTILE, "nextRunAt": AT, "notificationDays": 1, "scannedUntil": AT},
    "lastScan": SCAN,
}
ROW = {"objectId": HOSTILE, "expiresAt": HOSTILE, "noticeGiven": False, "modern": TEXTS, "legacy": {HOSTILE: HOSTILE}}
EXPLAINED = {**TEXTS, "items": [{**TEXTS, "webhookSubscriptionId": ID}]}
DELIVERY = TEXTS | {"createdAt": AT, "endedAt": AT, "nextAttemptAt": AT, "attempts": 1}
PLANNED = dict.fromkeys(("eventName", "name", "url", "warning"), HOSTILE) | {
    "action": "update",
    "index": 0,
    "webhookSubscriptionId": ID,
    "changes": [{"field": HOSTILE, "before": HOSTILE, "after": [HOSTILE]}],
    "loses": [HOSTILE],
}
PLAN = {"plan": "1", "applied": False, "unchanged": 1, "changes": [PLANNED]} | {
    "others": [{"eventName": HOSTILE, "name": HOSTILE, "url": HOSTILE, "webhookSubscriptionId": ID}]
}
ERRORS = {"code": 400, "message": HOSTILE, "errors": [{"path": HOSTILE, "message": HOSTILE, "code": HOSTILE}]}
EMIT = ["emit", "CustomerUpdated", "--data", "{}", "--patience", "0"]
AS_ON_A_TERMINAL = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}  # rich turns its markup into escapes
TRIGGER = ["schedules", "trigger", "--kind", "points"]


def answer(body: Any, code: int = 200) -> Reply:
    """This JSON."""
    return status(code, body=json.dumps(body).encode())


CALLS: dict[str, tuple[list[str], list[Reply]]] = {
    "explain": (["explain", ID], [answer(EXPLAINED)]),
    "explain --json": (["explain", ID, "--json"], [answer(EXPLAINED)]),
    "pause": (["subscription", "pause", ID], [answer(TEXTS)]),
    "send-test": (
        ["subscription", "send-test", ID],
        [answer(TEXTS | {"messageId": ID}), answer(TEXTS), answer(EXPLAINED)],
    ),
    "schedules": (["schedules", "list"], [answer({"items": [SCHEDULE]})]),
    "schedules --json": (["schedules", "list", "--json"], [answer({"items": [SCHEDULE]})]),
    "sync": (["schedules", "sync"], [answer({"failed": {HOSTILE: HOSTILE}, "created": [], "updated": []})]),
    "trigger": (
        TRIGGER,
        [
            answer({"scans": []}),
            answer(SCHEDULE),
            answer({"scans": [SCAN | {"finishedAt": None}]}),
            answer({"scans": [SCAN]}),
        ],
    ),
    "preview": (["schedules", "preview", "--kind", "points"], [answer({"count": 1, "items": [ROW]})]),
    "diff": (["subscriptions", "diff", "-"], [answer(PLAN)]),
    "a refusal": (["explain", ID], [answer(ERRORS, 400)]),
    "a conflict": (["delivery", "cancel", ID], [answer({"message": HOSTILE}, 409)]),
    "another error": (["delivery", "cancel", ID], [answer({"message": HOSTILE}, 500)]),
    "a refused export": (["subscriptions", "export"], [answer(ERRORS, 400)]),
    "another error of an export": (["subscriptions", "export"], [answer({"message": HOSTILE}, 500)]),
    "a refused event": (EMIT, [answer(ERRORS, 400)]),
    "another error of emit": (EMIT, [answer({"message": HOSTILE}, 500)]),
}


def uncontrolled(text: str) -> None:
    """Fail if the text controls a terminal by anything but our own colours."""
    shown = re.sub(r"\r?\x1b\[([0-9;]*m|\?25[lh]|[12]K|1A)", "", text)  # colours and a progress bar
    assert ESCAPED in shown
    assert [letter for letter in shown if letter != "\n" and not letter.isprintable()] == []


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_no_command_prints_a_control_character_of_the_server(
    receiver: Receiver, tmp_path: Path, call: tuple[list[str], list[Reply]]
) -> None:
    arguments, replies = call
    receiver.script(*replies)
    receiver.otherwise = replies[-1]
    environment = {
        "LOYALTY_WEBHOOKS_API": receiver.url("").rstrip("/"),
        "LOYALTY_WEBHOOKS_KEY": "key",
    } | AS_ON_A_TERMINAL
    file = b"version: 1\nsubscriptions: []\n"
    ended = await run(
        *arguments, "--store", "default", directory=tmp_path, environment=environment, standard_input=file
    )
    assert receiver.requests
    uncontrolled(ended.output + ended.errors)


async def test_status_prints_none_of_the_database(database: Database, database_url: str, tmp_path: Path) -> None:
    async with database.transaction() as connection:
        wanted = text(
            "INSERT INTO worker (id, host, pid, seen_at) "
            "VALUES (gen_random_uuid(), :host, 1, now() + interval '1 hour')"
        )
        await connection.execute(wanted, {"host": HOSTILE})
    environment = {"DATABASE_URL": database_url, "ENCRYPTION_KEYS": Fernet.generate_key().decode(), "API_PORT": "1"}
    environment |= {"TEMPORAL_ADDRESS": "127.0.0.1:1"} | AS_ON_A_TERMINAL
    ended = await run("status", directory=tmp_path, environment=environment)
    assert "Live workers: 1." in ended.output
    uncontrolled(ended.output + ended.errors)


async def test_tail_prints_none(receiver: Receiver, tmp_path: Path) -> None:
    receiver.script(*[answer({"items": [], "nextCursor": None})] * 3)  # before it says that it waits
    receiver.otherwise = answer({"items": [DELIVERY], "nextCursor": None})
    async with running(
        "tail", "--api", receiver.url("").rstrip("/"), "--key", "key", "--store", "default", directory=tmp_path
    ) as process:
        uncontrolled("\n".join(await lines_until(process, ESCAPED)))


async def test_json_keeps_the_texts_exactly(receiver: Receiver, tmp_path: Path) -> None:
    receiver.otherwise = answer(EXPLAINED)
    environment = {"LOYALTY_WEBHOOKS_API": receiver.url("").rstrip("/"), "LOYALTY_WEBHOOKS_KEY": "key"}
    ended = await run("explain", ID, "--json", directory=tmp_path, environment=environment)
    assert json.loads(ended.output) == EXPLAINED


def test_the_screen_of_up_shows_none_of_a_request() -> None:
    file = io.StringIO()
    Screen(Console(file=file, force_terminal=True, color_system=None, width=500)).note(f"received {HOSTILE}")
    uncontrolled(file.getvalue())
