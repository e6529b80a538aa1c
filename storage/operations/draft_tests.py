"""Tests of webhooks that are not saved: opened by the API, sent by a worker, read by the API again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.mapping import one_as

TRIALS_A_MINUTE = 10
"""Of a store: enough for a person who tries things out, and too few to trouble anybody with."""

KEPT_MINUTES = 60
"""Until a later trial removes it. Nobody looks at it after the page that asked for it."""

TRIAL_SECONDS = 30
"""A person waits for it. One that no worker has begun by then is not sent any more."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be tried. Without a `sealed_secret` the request is not signed."""

    store_code: str
    event_name: str
    url: str
    legacy: bool
    sealed_headers: bytes | None
    sealed_secret: bytes | None
    signature_version: int


@dataclass(frozen=True, slots=True)
class BegunTrial:
    """A trial for the worker that sends it."""

    draft: Draft
    timezone: str


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What was sent, secrets masked, and what came back."""

    sent_headers: Sequence[tuple[str, str]]
    sent_body: str | None
    duration_ms: int
    status_code: int | None
    failure: str | None
    detail: str | None
    response_excerpt: str | None


_DRAFT = "store_code, event_name, url, legacy, sealed_headers, sealed_secret, signature_version"
_FORGET = text(f"DELETE FROM trial WHERE created_at < clock_timestamp() - interval '{KEPT_MINUTES} minutes'")
_LOCK_STORE = text("SELECT code FROM store WHERE code = :store_code FOR NO KEY UPDATE")
_WAIT = text(f"""
SELECT CAST(ceil(extract(epoch FROM created_at + interval '1 minute' - clock_timestamp())) AS int) FROM trial
WHERE store_code = :store_code AND created_at > clock_timestamp() - interval '1 minute'
ORDER BY created_at DESC OFFSET {TRIALS_A_MINUTE - 1} LIMIT 1
""")
_OPEN = text(f"""
INSERT INTO trial (id, {_DRAFT})
VALUES (:id, :store_code, :event_name, :url, :legacy, :sealed_headers, :sealed_secret, :signature_version)
""")
_BEGIN = text(f"""
UPDATE trial SET begun_at = clock_timestamp()
FROM store WHERE store.code = trial.store_code AND trial.id = :id AND begun_at IS NULL
    AND trial.created_at > clock_timestamp() - interval '{TRIAL_SECONDS} seconds'
RETURNING {_DRAFT}, store.timezone
""")
_END = text("""
UPDATE trial SET sealed_headers = NULL, sealed_secret = NULL, sent_headers = CAST(:sent_headers AS jsonb),
    sent_body = :sent_body, duration_ms = :duration_ms, status_code = :status_code, failure = :failure,
    detail = :detail, response_excerpt = :response_excerpt
WHERE id = :id
""")
_GIVE_UP = text("""
UPDATE trial SET begun_at = coalesce(begun_at, clock_timestamp()), sealed_headers = NULL, sealed_secret = NULL
WHERE id = :id
""")
_RESULT = text("""
SELECT sent_headers, sent_body, duration_ms, status_code, failure, detail, response_excerpt FROM trial
WHERE id = :id AND duration_ms IS NOT NULL
""")


async def open_trial(connection: AsyncConnection, trial_id: UUID, draft: Draft) -> int:
    """Keep the draft for a worker; 0, or the seconds to wait where the store has had its share of this minute."""
    await connection.execute(_FORGET)
    await connection.execute(_LOCK_STORE, {"store_code": draft.store_code})
    wait = await connection.scalar(_WAIT, {"store_code": draft.store_code})
    if wait is not None:
        return max(1, int(wait))
    values = {name: getattr(draft, name) for name in Draft.__dataclass_fields__}
    await connection.execute(_OPEN, {"id": trial_id, **values})
    return 0


async def begin_trial(connection: AsyncConnection, trial_id: UUID) -> BegunTrial | None:
    """Take it, to send it now; None when somebody has taken it, or nobody waits for it any more."""
    return one_as(_begun, await connection.execute(_BEGIN, {"id": trial_id}))


def _begun(timezone: str, **draft: Any) -> BegunTrial:
    return BegunTrial(Draft(**draft), timezone)


async def end_trial(connection: AsyncConnection, trial_id: UUID, result: TrialResult) -> None:
    """Keep what came of it, and forget its secrets."""
    values = {name: getattr(result, name) for name in TrialResult.__dataclass_fields__}
    values["sent_headers"] = orjson.dumps(result.sent_headers).decode()
    await connection.execute(_END, {"id": trial_id, **values})


async def give_up_trial(connection: AsyncConnection, trial_id: UUID) -> None:
    """Nobody waits for it any more: it is not sent unless it is under way, and its secrets are forgotten."""
    await connection.execute(_GIVE_UP, {"id": trial_id})


async def trial_result(connection: AsyncConnection, trial_id: UUID) -> TrialResult | None:
    """What came of it; None while there is nothing."""
    return one_as(_result, await connection.execute(_RESULT, {"id": trial_id}))


def _result(sent_headers: Sequence[Sequence[str]], **others: Any) -> TrialResult:
    return TrialResult([(name, value) for name, value in sent_headers], **others)
