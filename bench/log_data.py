"""A long log of deliveries, made inside PostgreSQL: a million rows with their events and attempts in about a minute."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from storage.database import Database

STORE = "default"
RARE_EVENT = "CampaignEffectWasApplied"
CHUNK_DELIVERIES = 100_000  # one transaction each, so that neither locks nor WAL pile up


@dataclass(frozen=True)
class LogShape:
    """What the log consists of.

    `subscriptions` share the deliveries unevenly. One more is rare: RARE_DELIVERIES rows, all of the first hour.
    """

    deliveries: int
    subscriptions: int = 60


RARE_DELIVERIES = 3
RARE_URL = "https://rare.example.com/hooks/loyalty"
RARE_SUBSCRIPTION = UUID("00000000-0000-4000-8000-00000000ffff")

_STORE = text("INSERT INTO store (code, name) VALUES (:store, 'A store') ON CONFLICT DO NOTHING")
_SUBSCRIPTIONS = text("""
INSERT INTO subscription (id, store_code, event_name, url, created_at)
SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(number), 12, '0'))::uuid, :store,
    (CAST(:names AS text[]))[1 + number % cardinality(CAST(:names AS text[]))],
    'https://receiver-' || number || '.example.com/hooks/loyalty?tenant=' || number, now() - interval '60 days'
FROM generate_series(1, CAST(:count AS int)) AS number
""")
_RARE_SUBSCRIPTION = text("""
INSERT INTO subscription (id, store_code, event_name, url, created_at)
VALUES (:id, :store, :name, :url, now() - interval '60 days')
""")
# Most are delivered; one in a hundred is exhausted, one in a thousand pending or cancelled. Ages spread over 30 days.
_DELIVERIES = text("""
WITH made AS MATERIALIZED (
    SELECT gen_random_uuid() AS message_id, gen_random_uuid() AS event_id, number,
        1 + (power(random(), 2) * (CAST(:subscriptions AS int) - 1))::int AS subscription,
        now() - interval '30 days' * (1 - number::float8 / CAST(:total AS int)) AS at,
        CASE WHEN number % 1000 = 1 THEN 'pending' WHEN number % 1000 = 2 THEN 'cancelled'
            WHEN number % 100 = 3 THEN 'exhausted' ELSE 'delivered' END AS status
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number
), stored AS (
    INSERT INTO event (store_code, event_id, name, created_at, created_at_text, accepted_at, data, digest, matched_at,
        workflow_id)
    SELECT :store, event_id, subscription.event_name, at, '2026-01-02T03:04:05Z', at,
        '{"customer":{"customerId":"' || event_id || '"}}', sha256(event_id::text::bytea), at,
        'event/' || CAST(:store AS text) || '/' || event_id
    FROM made JOIN subscription
        ON subscription.id = ('00000000-0000-4000-8000-' || lpad(to_hex(made.subscription), 12, '0'))::uuid
), tried AS (
    INSERT INTO attempt (message_id, number, request_id, trigger, worker_id, legacy, started_at, outcome_at,
        duration_ms, status_code, failure, response_excerpt)
    SELECT message_id, 1, gen_random_uuid(), 'automatic', gen_random_uuid(), false, at, at + interval '30 ms', 30,
        CASE status WHEN 'delivered' THEN 200 ELSE 503 END, CASE status WHEN 'delivered' THEN NULL ELSE 'status' END,
        'answer ' || number
    FROM made
)
INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url, status, attempts,
    last_status_code, last_failure, created_at, ended_at, workflow_id)
SELECT message_id, :store, event_id, subscription.event_name, subscription.id, 'main', subscription.url, made.status, 1,
    CASE made.status WHEN 'delivered' THEN 200 ELSE 503 END,
    CASE made.status WHEN 'delivered' THEN NULL ELSE 'status' END,
    at, CASE made.status WHEN 'pending' THEN NULL ELSE at END, 'event/' || CAST(:store AS text) || '/' || event_id
FROM made JOIN subscription
    ON subscription.id = ('00000000-0000-4000-8000-' || lpad(to_hex(made.subscription), 12, '0'))::uuid
""")
_RARE_DELIVERIES = text("""
INSERT INTO delivery (message_id, store_code, event_id, event_name, subscription_id, variant, url, status, attempts,
    created_at, ended_at)
SELECT gen_random_uuid(), :store, gen_random_uuid(), :name, :id, 'main', :url, 'delivered', 1,
    now() - interval '30 days' + number * interval '1 minute', now()
FROM generate_series(1, CAST(:count AS int)) AS number
""")


async def load_log(database: Database, names: list[str], shape: LogShape) -> None:
    """Fill an empty, migrated database; `names` are the event names that occur (RARE_EVENT is added)."""
    async with database.transaction() as connection:
        await connection.execute(_STORE, {"store": STORE})
        await connection.execute(_SUBSCRIPTIONS, {"store": STORE, "names": names, "count": shape.subscriptions})
        rare = {"store": STORE, "name": RARE_EVENT, "id": RARE_SUBSCRIPTION, "url": RARE_URL}
        await connection.execute(_RARE_SUBSCRIPTION, rare)
        await connection.execute(_RARE_DELIVERIES, {**rare, "count": RARE_DELIVERIES})
    for first in range(1, shape.deliveries + 1, CHUNK_DELIVERIES):
        last = min(first + CHUNK_DELIVERIES - 1, shape.deliveries)
        parameters = {"subscriptions": shape.subscriptions, "total": shape.deliveries, "first": first, "last": last}
        async with database.transaction() as connection:
            await connection.execute(_DELIVERIES, {"store": STORE, **parameters})
    async with database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
