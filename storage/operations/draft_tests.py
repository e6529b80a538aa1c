"""Draft tests, that is, tests of unsaved webhooks: created by the API, sent by a worker, read by the API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.mapping import one_as

DRAFT_TESTS_A_MINUTE = 10
"""Maximum number of draft tests per store and minute: enough for a person who edits a webhook, too few to load a
receiver."""

KEPT_MINUTES = 60
"""Retention of a draft test, which a later one deletes. Only the page that started it reads it."""

DRAFT_TEST_SECONDS = 30
"""Maximum age at which a draft test is still sent. A person waits for it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A webhook to test. Without a `sealed_secret` the request is not signed."""

    store_code: str
    event_name: str
    url: str
    legacy: bool
    sealed_headers: bytes | None
    sealed_secret: bytes | None
    signature_version: int


@dataclass(frozen=True, slots=True)
class BegunDraftTest:
    """A draft test for the worker that sends it."""

    draft: Draft
    timezone: str


@dataclass(frozen=True, slots=True)
class DraftTestResult:
    """The request, secrets masked, and its response."""

    sent_headers: Sequence[tuple[str, str]]
    sent_body: str | None
    duration_ms: int
    status_code: int | None
    failure: str | None
    detail: str | None
    response_excerpt: str | None


_DRAFT = "store_code, event_name, url, legacy, sealed_headers, sealed_secret, signature_version"
_FORGET = text(f"DELETE FROM draft_test WHERE created_at < clock_timestamp() - interval '{KEPT_MINUTES} minutes'")
_LOCK_STORE = text("SELECT code FROM store WHERE code = :store_code FOR NO KEY UPDATE")
_WAIT = text(f"""
SELECT CAST(ceil(extract(epoch FROM created_at + interval '1 minute' - clock_timestamp())) AS int) FROM draft_test
WHERE store_code = :store_code AND created_at > clock_timestamp() - interval '1 minute'
ORDER BY created_at DESC OFFSET {DRAFT_TESTS_A_MINUTE - 1} LIMIT 1
""")
_OPEN = text(f"""
INSERT INTO draft_test (id, {_DRAFT})
VALUES (:id, :store_code, :event_name, :url, :legacy, :sealed_headers, :sealed_secret, :signature_version)
""")
_BEGIN = text(f"""
UPDATE draft_test SET begun_at = clock_timestamp()
FROM store WHERE store.code = draft_test.store_code AND draft_test.id = :id AND begun_at IS NULL
    AND draft_test.created_at > clock_timestamp() - interval '{DRAFT_TEST_SECONDS} seconds'
RETURNING {_DRAFT}, store.timezone
""")
_END = text("""
UPDATE draft_test SET sealed_headers = NULL, sealed_secret = NULL, sent_headers = CAST(:sent_headers AS jsonb),
    sent_body = :sent_body, duration_ms = :duration_ms, status_code = :status_code, failure = :failure,
    detail = :detail, response_excerpt = :response_excerpt
WHERE id = :id
""")
_GIVE_UP = text("""
UPDATE draft_test SET begun_at = coalesce(begun_at, clock_timestamp()), sealed_headers = NULL, sealed_secret = NULL
WHERE id = :id
""")
_RESULT = text("""
SELECT sent_headers, sent_body, duration_ms, status_code, failure, detail, response_excerpt FROM draft_test
WHERE id = :id AND duration_ms IS NOT NULL
""")


async def open_draft_test(connection: AsyncConnection, test_id: UUID, draft: Draft) -> int:
    """Store the draft for a worker. Return 0, or the seconds to wait when the store is at its limit per minute."""
    await connection.execute(_FORGET)
    await connection.execute(_LOCK_STORE, {"store_code": draft.store_code})
    wait = await connection.scalar(_WAIT, {"store_code": draft.store_code})
    if wait is not None:
        return max(1, int(wait))
    values = {name: getattr(draft, name) for name in Draft.__dataclass_fields__}
    await connection.execute(_OPEN, {"id": test_id, **values})
    return 0


async def begin_draft_test(connection: AsyncConnection, test_id: UUID) -> BegunDraftTest | None:
    """Take the test, to send it now. Return None when it was taken before, or is too old."""
    return one_as(_begun, await connection.execute(_BEGIN, {"id": test_id}))


def _begun(timezone: str, **draft: Any) -> BegunDraftTest:
    return BegunDraftTest(Draft(**draft), timezone)


async def end_draft_test(connection: AsyncConnection, test_id: UUID, result: DraftTestResult) -> None:
    """Store the result, and delete the secrets."""
    values = {name: getattr(result, name) for name in DraftTestResult.__dataclass_fields__}
    values["sent_headers"] = orjson.dumps(result.sent_headers).decode()
    await connection.execute(_END, {"id": test_id, **values})


async def give_up_draft_test(connection: AsyncConnection, test_id: UUID) -> None:
    """Cancel a draft test that has not begun, and delete its secrets."""
    await connection.execute(_GIVE_UP, {"id": test_id})


async def draft_test_result(connection: AsyncConnection, test_id: UUID) -> DraftTestResult | None:
    """Return the result, or None while there is none."""
    return one_as(_result, await connection.execute(_RESULT, {"id": test_id}))


def _result(sent_headers: Sequence[Sequence[str]], **others: Any) -> DraftTestResult:
    return DraftTestResult([(name, value) for name, value in sent_headers], **others)
