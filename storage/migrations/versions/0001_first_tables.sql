CREATE TABLE administrator (
    id uuid PRIMARY KEY, username text NOT NULL UNIQUE, password_hash text NOT NULL, scopes text[] NOT NULL,
    stores text[] NOT NULL, active boolean DEFAULT true NOT NULL,
    password_changed_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, last_login_at timestamptz
);

CREATE TABLE api_key (
    id uuid PRIMARY KEY, name text NOT NULL, key_sha256 bytea NOT NULL UNIQUE, scopes text[] NOT NULL,
    stores text[] NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL, expires_at timestamptz,
    revoked_at timestamptz, last_used_at timestamptz
);

CREATE TABLE attempt (
    accepted_on date NOT NULL, message_id uuid NOT NULL, number integer NOT NULL, request_id uuid NOT NULL,
    trigger text NOT NULL, worker_id uuid NOT NULL, legacy boolean NOT NULL,
    started_at timestamptz DEFAULT clock_timestamp() NOT NULL, outcome_at timestamptz, duration_ms integer,
    status_code integer, failure text, detail text, response_excerpt text, body_sha256 bytea,
    PRIMARY KEY (accepted_on, message_id, number)
) PARTITION BY RANGE (accepted_on);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT clock_timestamp() NOT NULL,
    store_code text, actor text NOT NULL, action text NOT NULL, object_type text NOT NULL, object_id text NOT NULL,
    changes jsonb NOT NULL
);
CREATE INDEX audit_by_store ON audit (store_code, id);

CREATE TABLE subscription_health (
    subscription_id uuid PRIMARY KEY, failures_in_row integer DEFAULT '0' NOT NULL, failing_since timestamptz,
    breaker_opened_at timestamptz, probe_at timestamptz, probe_interval_seconds float
);

CREATE TABLE delivery (
    message_id uuid PRIMARY KEY, store_code text NOT NULL, event_id uuid NOT NULL, event_name text NOT NULL,
    event_sequence bigint DEFAULT '0' NOT NULL,
    accepted_on date DEFAULT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) NOT NULL,
    subscription_id uuid NOT NULL, variant text NOT NULL, url text NOT NULL, status text NOT NULL, reason text,
    attempts integer DEFAULT '0' NOT NULL, failures integer DEFAULT '0' NOT NULL, last_status_code integer,
    last_failure text, next_attempt_at timestamptz, not_before timestamptz, workflow_id text, retry_id text,
    bulk_action_id uuid, ordering_key bigint, holds_group boolean DEFAULT false NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, ended_at timestamptz
);
CREATE INDEX delivery_by_age ON delivery (store_code, created_at, message_id);
CREATE INDEX delivery_not_arrived ON delivery (accepted_on)
    WHERE status IN ('exhausted', 'held') OR next_attempt_at IS NOT NULL;
CREATE INDEX delivery_by_event ON delivery (event_id);
CREATE INDEX delivery_by_bulk_action ON delivery (bulk_action_id, status) WHERE bulk_action_id IS NOT NULL;
CREATE INDEX delivery_test_waiting ON delivery (created_at) WHERE variant = 'test' AND status = 'pending';
CREATE INDEX delivery_held ON delivery (subscription_id, event_sequence, message_id) WHERE status = 'held';
CREATE INDEX delivery_by_ordering_key ON delivery (subscription_id, ordering_key, event_sequence, message_id)
    WHERE status = 'held';
CREATE INDEX delivery_holding_group ON delivery (subscription_id, ordering_key, event_sequence) WHERE holds_group;
CREATE INDEX delivery_retry_due ON delivery (next_attempt_at) WHERE status = 'pending' AND next_attempt_at IS NOT NULL;
CREATE INDEX delivery_retry_by_subscription ON delivery (subscription_id)
    WHERE status = 'pending' AND next_attempt_at IS NOT NULL;
CREATE INDEX delivery_held_due ON delivery (subscription_id, next_attempt_at, event_sequence, message_id)
    WHERE status = 'held';
CREATE INDEX delivery_by_destination
    ON delivery (subscription_id, hashtextextended(url, 0), status, created_at, message_id);

CREATE TABLE event (
    store_code text NOT NULL, event_id uuid NOT NULL, sequence bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL, created_at timestamptz NOT NULL, created_at_text text NOT NULL,
    created_at_given boolean DEFAULT false NOT NULL, accepted_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    accepted_on date GENERATED ALWAYS AS (CAST(accepted_at AT TIME ZONE 'UTC' AS date)) STORED NOT NULL,
    digest bytea NOT NULL, traceparent text, workflow_id text, claimed_until timestamptz, matched_at timestamptz,
    erased_at timestamptz, PRIMARY KEY (store_code, event_id)
) WITH (autovacuum_vacuum_cost_delay = 1, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 20000);
CREATE INDEX event_by_age ON event (store_code, accepted_at, event_id);
CREATE INDEX event_unmatched ON event (store_code, sequence) WHERE matched_at IS NULL;

CREATE TABLE event_body (
    accepted_on date NOT NULL, store_code text NOT NULL, event_id uuid NOT NULL, data text NOT NULL,
    sealed_data bytea, PRIMARY KEY (accepted_on, store_code, event_id)
) PARTITION BY RANGE (accepted_on);

CREATE TABLE thinned_day (
    accepted_on date PRIMARY KEY, age_days integer NOT NULL, rules text NOT NULL,
    cleared boolean DEFAULT false NOT NULL
);

-- Partitions have a schema of their own. storage/events/days.py creates those of the days; rows of a day without a
-- partition go to the default partition `rest`.
CREATE SCHEMA days;
CREATE TABLE days.attempt_rest PARTITION OF attempt DEFAULT;
CREATE TABLE days.event_body_rest PARTITION OF event_body DEFAULT;

CREATE TABLE idempotency_key (
    store_code text NOT NULL, actor text NOT NULL, key text NOT NULL, digest bytea NOT NULL,
    object_id uuid NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (store_code, actor, key)
);
CREATE INDEX idempotency_key_by_age ON idempotency_key (created_at);

CREATE TABLE store (
    code text PRIMARY KEY, name text NOT NULL, timezone text DEFAULT 'UTC' NOT NULL,
    expire_points_notification_days integer DEFAULT '10' NOT NULL,
    expire_levels_notification_days integer DEFAULT '10' NOT NULL,
    expire_coupons_notification_days integer DEFAULT '10' NOT NULL,
    expiry_kinds_from_events text[] DEFAULT '{}' NOT NULL, retention_days integer, retention_exhausted_days integer,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE subscription_throttle (
    subscription_id uuid PRIMARY KEY, rests_until timestamptz, slowed_to float, slowed_at timestamptz,
    slowed_until timestamptz
);

CREATE TABLE draft_test (
    id uuid PRIMARY KEY, store_code text NOT NULL, event_name text NOT NULL, url text NOT NULL,
    legacy boolean NOT NULL, sealed_headers bytea, sealed_secret bytea, signature_version integer NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, begun_at timestamptz, sent_headers jsonb,
    sent_body text, duration_ms integer, status_code integer, failure text, detail text, response_excerpt text
);
CREATE INDEX draft_test_by_age ON draft_test (store_code, created_at);

CREATE TABLE bulk_action (
    id uuid PRIMARY KEY, kind text NOT NULL, store_code text NOT NULL, subscription_id uuid NOT NULL,
    since timestamptz NOT NULL, until timestamptz NOT NULL, statuses text[] NOT NULL, rate_per_second integer,
    paced_until timestamptz, count integer NOT NULL, opened integer DEFAULT '0' NOT NULL,
    all_open boolean DEFAULT false NOT NULL, cursor_at timestamptz, cursor_id uuid,
    status text DEFAULT 'running' NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    ended_at timestamptz
);
CREATE UNIQUE INDEX bulk_action_running ON bulk_action (subscription_id) WHERE status = 'running';

CREATE TABLE worker (
    id uuid PRIMARY KEY, host text NOT NULL, pid integer NOT NULL,
    started_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    steady_since timestamptz DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE rejected_emit (
    store_code text NOT NULL, event_id uuid NOT NULL, rejected_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    because text NOT NULL, PRIMARY KEY (store_code, event_id)
);
CREATE INDEX rejected_emit_by_age ON rejected_emit (rejected_at);

CREATE TABLE panel_session (
    token_sha256 bytea PRIMARY KEY, administrator_id uuid NOT NULL REFERENCES administrator ON DELETE CASCADE,
    password_version bigint NOT NULL, expires_at timestamptz NOT NULL,
    used_at timestamptz DEFAULT clock_timestamp() NOT NULL, notice jsonb
);

CREATE TABLE refresh_token (
    token_sha256 bytea PRIMARY KEY, administrator_id uuid NOT NULL REFERENCES administrator ON DELETE CASCADE,
    family uuid NOT NULL, expires_at timestamptz NOT NULL, used_at timestamptz
);

CREATE TABLE subscription (
    id uuid PRIMARY KEY, store_code text NOT NULL REFERENCES store, event_name text NOT NULL, url text NOT NULL,
    name text, legacy boolean DEFAULT false NOT NULL, destination_type text DEFAULT 'rest' NOT NULL,
    active_from timestamptz, sealed_headers bytea, hmac_enabled boolean DEFAULT false NOT NULL, sealed_secret bytea,
    sealed_previous_secret bytea, previous_secret_until timestamptz, signature_version integer DEFAULT '0' NOT NULL,
    status text DEFAULT 'active' NOT NULL, status_reason text,
    status_since timestamptz DEFAULT clock_timestamp() NOT NULL, retry_schedule integer[],
    rate_limit_per_second integer, max_concurrency integer, ordered boolean DEFAULT false NOT NULL,
    order_key text DEFAULT 'subscription' NOT NULL, after_exhausted text DEFAULT 'skip' NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL, deleted_at timestamptz
);
CREATE INDEX subscription_by_age ON subscription (store_code, created_at, id);
CREATE INDEX subscription_by_event ON subscription (store_code, event_name) WHERE deleted_at IS NULL;

CREATE TABLE format_migration (
    subscription_id uuid PRIMARY KEY REFERENCES subscription, modern_id uuid NOT NULL REFERENCES subscription
);

CREATE TABLE expiry_coverage (
    store_code text NOT NULL, kind text NOT NULL, covered_from timestamptz NOT NULL,
    covered_until timestamptz NOT NULL, rows_seen_until timestamptz NOT NULL, PRIMARY KEY (store_code, kind)
);

CREATE TABLE expiry_scan (
    id uuid PRIMARY KEY, store_code text NOT NULL, kind text NOT NULL, origin text NOT NULL, day date,
    timezone text NOT NULL, starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL,
    imported_after timestamptz, sees_until timestamptz NOT NULL, workflow_id text NOT NULL,
    position_at timestamptz NOT NULL, position_id uuid NOT NULL, scanned bigint DEFAULT '0' NOT NULL,
    emitted bigint DEFAULT '0' NOT NULL, known bigint DEFAULT '0' NOT NULL, dropped bigint DEFAULT '0' NOT NULL,
    refused bigint DEFAULT '0' NOT NULL, started_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    advanced_at timestamptz DEFAULT clock_timestamp() NOT NULL, finished_at timestamptz
);
CREATE INDEX expiry_scan_by_age ON expiry_scan (store_code, kind, started_at);

CREATE TABLE expiry_import (
    store_code text NOT NULL, kind text NOT NULL, file_sha256 bytea NOT NULL, position_bytes bigint NOT NULL,
    position_line bigint NOT NULL, rows bigint NOT NULL, written bigint NOT NULL, rejected bigint NOT NULL,
    rejects_bytes bigint NOT NULL, started_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamptz, PRIMARY KEY (store_code, kind, file_sha256)
);

CREATE TABLE issued_coupon (
    store_code text NOT NULL, issued_coupon_id uuid NOT NULL, customer_id uuid NOT NULL, reward_id uuid,
    sealed_code bytea, status text NOT NULL, used boolean NOT NULL, active_to timestamptz, customer_email text,
    customer_phone text, customer_loyalty_card_number text, customer_first_name text, customer_last_name text,
    updated_at timestamptz NOT NULL, imported_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (store_code, issued_coupon_id)
);
CREATE INDEX issued_coupon_due ON issued_coupon (store_code, active_to, issued_coupon_id) INCLUDE (imported_at)
    WHERE status = 'active' AND NOT used AND active_to IS NOT NULL;

CREATE TABLE member_level (
    store_code text NOT NULL, customer_id uuid NOT NULL, level_id uuid, level_name text, future_level_id uuid,
    future_level_name text, recalculate_at timestamptz, customer_email text, customer_phone text,
    customer_loyalty_card_number text, customer_first_name text, customer_last_name text,
    updated_at timestamptz NOT NULL, imported_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (store_code, customer_id)
);
CREATE INDEX member_level_due ON member_level (store_code, recalculate_at, customer_id) INCLUDE (imported_at)
    WHERE level_id IS NOT NULL AND future_level_id IS NOT NULL AND recalculate_at IS NOT NULL;

CREATE TABLE point_transfer (
    store_code text NOT NULL, transfer_id uuid NOT NULL, customer_id uuid NOT NULL, account_id uuid,
    wallet_code text, points numeric NOT NULL, remaining_points numeric, type text NOT NULL, status text NOT NULL,
    expires_at timestamptz, customer_email text, customer_phone text, customer_loyalty_card_number text,
    customer_first_name text, customer_last_name text, updated_at timestamptz NOT NULL,
    imported_at timestamptz DEFAULT clock_timestamp() NOT NULL, PRIMARY KEY (store_code, transfer_id)
);
CREATE INDEX point_transfer_due ON point_transfer (store_code, expires_at, transfer_id) INCLUDE (imported_at)
    WHERE status = 'active' AND remaining_points IS DISTINCT FROM 0 AND expires_at IS NOT NULL;

CREATE TABLE store_operator (
    store_code text PRIMARY KEY REFERENCES store, url text NOT NULL, sealed_secret bytea NOT NULL,
    sealed_previous_secret bytea, previous_secret_until timestamptz
);

CREATE TABLE notice (
    id uuid PRIMARY KEY, store_code text NOT NULL, subscription_id uuid NOT NULL, kind text NOT NULL,
    minute timestamptz NOT NULL, count integer DEFAULT '1' NOT NULL, reasons text[] NOT NULL,
    first_at timestamptz NOT NULL, last_at timestamptz NOT NULL, due_at timestamptz,
    attempts integer DEFAULT '0' NOT NULL, sent_at timestamptz, last_failure text, mail_due_at timestamptz,
    mail_attempts integer DEFAULT '0' NOT NULL, mailed_at timestamptz
);
CREATE INDEX notice_by_age ON notice (minute);
CREATE INDEX notice_due ON notice (store_code, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX notice_mail_due ON notice (store_code, mail_due_at) WHERE mail_due_at IS NOT NULL;
CREATE UNIQUE INDEX notice_of_minute ON notice (subscription_id, kind, minute);

CREATE TABLE attempts_of_minute (
    store_code text NOT NULL, minute timestamptz NOT NULL, outcome text NOT NULL, step smallint NOT NULL,
    writer_id uuid NOT NULL, count integer NOT NULL, PRIMARY KEY (store_code, minute, outcome, step, writer_id)
);
CREATE INDEX attempts_of_minute_by_age ON attempts_of_minute (minute);

CREATE TABLE attempts_of_hour (
    subscription_id uuid NOT NULL, hour timestamptz NOT NULL, outcome text NOT NULL, writer_id uuid NOT NULL,
    count integer NOT NULL, PRIMARY KEY (subscription_id, hour, outcome, writer_id)
);
CREATE INDEX attempts_of_hour_by_age ON attempts_of_hour (hour);

CREATE TABLE limiter_lease (
    subscription_id uuid PRIMARY KEY, worker_id uuid NOT NULL,
    seen_at timestamptz DEFAULT clock_timestamp() NOT NULL
)
