"""Notices: written in the transaction of their occurrence, sent later, deleted after 30 days."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, delete, func, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from domain.delivery.lifecycle import SubscriptionStatus
from domain.delivery.notices import NOTICES_A_ROUND, Notice, NoticeKind
from domain.urls.targets import shown_target
from domain.wire.client_certificate import EXPIRES_SOON_DAYS
from storage.mapping import all_as
from storage.subscriptions.tables import NoticeRow

AFTER_MINUTE_SECONDS = 2.0
"""Delay of a notice after its minute, so that transactions that began in the minute have committed."""

MAIL_FOR_HOURS = 24
"""Maximum age of a notice that is mailed. Mail that was just switched on should report current events only."""

CERTIFICATES_AGAIN_DAYS = 7
"""Interval of the notices about a client certificate that expires soon; daily once fewer days are left."""

KEPT_FOR = timedelta(days=30)
"""Lifetime of a notice; the audit and the deliveries themselves are retained for longer."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An occurrence at a subscription, which happened `count` times."""

    subscription_id: UUID
    kind: NoticeKind
    reason: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class DueNotice:
    """A notice to send, with its number of attempts so far."""

    notice: Notice
    attempts: int


# Rows are locked in one order, and no transaction locks anything after them (`note`), which excludes deadlocks.
_NOTE = text(f"""
INSERT INTO notice (id, store_code, subscription_id, kind, minute, count, reasons, first_at, last_at, due_at,
    mail_due_at)
SELECT gen_random_uuid(), subscription.store_code, subscription.id, happened.kind, happened.minute, happened.count,
    string_to_array(happened.reasons, ' '), happened.at, happened.at,
    CASE WHEN store_operator.url IS NOT NULL THEN happened.due_at END, happened.due_at
FROM (
    SELECT given.*, at, date_trunc('minute', at) AS minute,
        date_trunc('minute', at) + make_interval(secs => 60 + {AFTER_MINUTE_SECONDS}) AS due_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:kinds AS text[]), CAST(:reasons AS text[]), CAST(:counts AS int[]))
        AS given (id, kind, reasons, count), (SELECT clock_timestamp() AS at) AS clock
    ORDER BY id, kind
) AS happened
JOIN subscription ON subscription.id = happened.id AND subscription.deleted_at IS NULL
LEFT JOIN store_operator ON store_operator.store_code = subscription.store_code
ORDER BY subscription.id, happened.kind
ON CONFLICT (subscription_id, kind, minute) DO UPDATE SET count = notice.count + excluded.count,
    reasons = ARRAY(SELECT DISTINCT reason FROM unnest(notice.reasons || excluded.reasons) AS reason ORDER BY reason),
    last_at = excluded.last_at
""")

# Skipping the rows that another worker has locked: both would note the same certificates.
_CERTIFICATES = text(f"""
SELECT id, day FROM subscription,
    to_char(certificate_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
    make_interval(days => {CERTIFICATES_AGAIN_DAYS}) AS week
WHERE deleted_at IS NULL AND status <> '{SubscriptionStatus.DISABLED}'
    AND certificate_expires_at < clock_timestamp() + interval '{EXPIRES_SOON_DAYS} days'
    AND NOT EXISTS (SELECT FROM notice WHERE notice.subscription_id = subscription.id
        AND notice.kind = '{NoticeKind.CERTIFICATE_EXPIRING}'
        AND day = ANY(notice.reasons) AND notice.minute > clock_timestamp()
            - CASE WHEN certificate_expires_at < clock_timestamp() + week THEN interval '1 day' ELSE week END)
ORDER BY id FOR NO KEY UPDATE OF subscription SKIP LOCKED
""")

_MAIL_DUE_NOW = f"mail_due_at <= clock_timestamp() AND minute > clock_timestamp() - interval '{MAIL_FOR_HOURS} hours'"


def _due(condition: str, attempts: str) -> TextClause:
    return text(f"""
SELECT notice.id, notice.kind, notice.store_code, notice.subscription_id, subscription.event_name, subscription.url,
    notice.count, notice.reasons, notice.first_at, notice.last_at, notice.{attempts} AS attempts
FROM notice JOIN subscription ON subscription.id = notice.subscription_id
WHERE notice.store_code = :store_code AND {condition} ORDER BY notice.first_at, notice.id LIMIT {NOTICES_A_ROUND}
""")


_WEBHOOKS_DUE = _due("due_at <= clock_timestamp()", "attempts")
_MAILS_DUE = _due(_MAIL_DUE_NOW, "mail_attempts")

# A notice that was being written while its operator was removed is due, and waits for another operator.
_STORES = text("""
SELECT DISTINCT store_code FROM notice JOIN store_operator USING (store_code) WHERE due_at <= clock_timestamp()
""")

_STORES_MAIL = text(f"SELECT DISTINCT store_code FROM notice WHERE {_MAIL_DUE_NOW}")

_NOT_MAILED = text("""
UPDATE notice SET mail_attempts = mail_attempts + 1,
    mail_due_at = clock_timestamp() + make_interval(secs => given.next_in_seconds)
FROM unnest(CAST(:ids AS uuid[]), CAST(:next_in_seconds AS float8[])) AS given (id, next_in_seconds)
WHERE notice.id = given.id
""")


async def note(connection: AsyncConnection, occurrences: Iterable[Occurrence]) -> None:
    """Add occurrences to the notices of this minute. Call it as the last statement of a transaction that locks
    anything, so that no transaction waits for a lock while it holds these rows."""
    counts: Counter[tuple[UUID, str]] = Counter()
    reasons: dict[tuple[UUID, str], set[str]] = defaultdict(set)
    for one in occurrences:
        key = (one.subscription_id, one.kind.value)
        counts[key] += one.count
        reasons[key] |= {one.reason} if one.reason is not None else set()
    if not counts:
        return
    values = {
        "ids": [subscription_id for subscription_id, _ in counts],
        "kinds": [kind for _, kind in counts],
        "reasons": [" ".join(sorted(reasons[key])) for key in counts],
        "counts": list(counts.values()),
    }
    await connection.execute(_NOTE, values)


async def note_expiring_certificates(connection: AsyncConnection) -> None:
    """Add a notice for each client certificate that expires soon, unless there was one about its expiry lately."""
    rows = await connection.execute(_CERTIFICATES)
    await note(connection, [Occurrence(row.id, NoticeKind.CERTIFICATE_EXPIRING, row.day) for row in rows])


async def due_notices(connection: AsyncConnection, store_code: str) -> list[DueNotice]:
    """Return the store's notices whose webhook is due, oldest first."""
    return all_as(_due_notice, await connection.execute(_WEBHOOKS_DUE, {"store_code": store_code}))


async def due_mails(connection: AsyncConnection, store_code: str) -> list[DueNotice]:
    """Return the store's notices whose mail is due, oldest first."""
    return all_as(_due_notice, await connection.execute(_MAILS_DUE, {"store_code": store_code}))


async def stores_with_due_notices(connection: AsyncConnection, *, mail: bool) -> set[str]:
    """Return the stores with a due webhook or, if `mail`, a due mail."""
    found = set(await connection.scalars(_STORES))
    return found | (set(await connection.scalars(_STORES_MAIL)) if mail else set())


async def notice_sent(connection: AsyncConnection, notice_id: UUID) -> None:
    """Record that the notice's webhook succeeded."""
    this_one = update(NoticeRow).where(col(NoticeRow.id) == notice_id)
    sent = {"sent_at": func.clock_timestamp(), "due_at": None, "last_failure": None}
    await connection.execute(this_one.values(**sent, attempts=col(NoticeRow.attempts) + 1))


async def notice_not_sent(
    connection: AsyncConnection, notice_id: UUID, *, failure: str, next_in_seconds: float | None, counts: bool = True
) -> None:
    """Record that the notice's webhook failed. `next_in_seconds` None: it is not retried. The attempt uses up the retry
    schedule if it `counts`."""
    again = None if next_in_seconds is None else func.clock_timestamp() + timedelta(seconds=next_in_seconds)
    still_due = update(NoticeRow).where(col(NoticeRow.id) == notice_id, col(NoticeRow.due_at).is_not(None))
    attempts = col(NoticeRow.attempts) + int(counts)
    await connection.execute(still_due.values(attempts=attempts, last_failure=failure, due_at=again))


async def notices_mailed(connection: AsyncConnection, notice_ids: Sequence[UUID]) -> None:
    """Record that the mail server accepted the notices."""
    these = update(NoticeRow).where(col(NoticeRow.id).in_(notice_ids))
    await connection.execute(these.values(mailed_at=func.clock_timestamp(), mail_due_at=None))


async def notices_not_mailed(connection: AsyncConnection, next_in_seconds: Mapping[UUID, float | None]) -> None:
    """Record that the mail server refused notices, with the seconds until each is retried (None: it is not)."""
    values = {"ids": list(next_in_seconds), "next_in_seconds": list(next_in_seconds.values())}
    await connection.execute(_NOT_MAILED, values)


async def forget_notices(connection: AsyncConnection) -> int:
    """Delete notices older than `KEPT_FOR`; return how many."""
    old = col(NoticeRow.minute) < func.clock_timestamp() - KEPT_FOR
    return (await connection.execute(delete(NoticeRow).where(old))).rowcount


def _due_notice(kind: str, url: str, reasons: Sequence[str], attempts: int, **others: Any) -> DueNotice:
    notice = Notice(kind=NoticeKind(kind), target=shown_target(url), reasons=tuple(reasons), **others)
    return DueNotice(notice, attempts)
