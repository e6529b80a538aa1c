"""All settings of all processes in one class: name, unit, default and the reason for the default.

Values come from environment variables of the same name in capitals, from a file `.env`, or from files named as the
settings in the folder SECRETS_DIR, in this order. Only entry points (`commands/`, `worker.py`, the API's factory)
build a `Settings`; other code receives the values it needs.
The Temporal connection is configured by Temporal's own environment (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
`TEMPORAL_TLS…`, `TEMPORAL_API_KEY`, `TEMPORAL_PROFILE`, …), read by `temporalio.envconfig`.
"""

import os
import re
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from cryptography.fernet import Fernet
from pydantic import BeforeValidator, Field, PlainValidator, PositiveFloat, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.delivery.timeouts import LONGEST_REQUEST_SECONDS, SHUTDOWN_GRACE_SECONDS
from domain.urls.rules import UrlRules

MINIMUM_JWT_SECRET_CHARACTERS = 32  # RFC 7518, 3.2: an HS256 key is at least as long as its hash

T = TypeVar("T")


def _split(value: object) -> object:
    """Split a comma-separated text: 'a, b' -> ['a', 'b'], an empty text -> []."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _no_proxy(value: str) -> str | IPv4Network | IPv6Network:
    with suppress(ValueError):
        return ip_network(value)
    name = value.lower().removeprefix(".")
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise ValueError("is neither a host name nor a network")
    return name


AtLeastOne = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
NoProxy = Annotated[str | IPv4Network | IPv6Network, PlainValidator(_no_proxy)]
CommaSeparated = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """All settings. Secrets have no default, so that no installation runs with a known one."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    # Every process
    database_url: SecretStr = Field(description="URL of PostgreSQL, as postgresql://user:password@host:port/database")
    encryption_keys: CommaSeparated[SecretStr] = Field(
        description="Fernet keys for encryption at rest, comma separated: the first encrypts, all decrypt."
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder with one file per secret, named as its setting, as container platforms mount them. The "
        "environment and `.env` take precedence. Read from the environment only.",
    )
    database_pool_size: int = Field(
        10,
        ge=3,
        description="Connections in each process's pool to PostgreSQL. An API has one more, a worker up to four more.",
    )
    log_format: str = Field("json", pattern="^(json|text)$", description="json for machines, text for a terminal.")
    log_level: str = Field("INFO", description="Minimum level to log: DEBUG, INFO, WARNING or ERROR.")

    # Temporal
    task_queue: str = Field(
        "loyalty-webhooks", description="Task queue that workers poll, for workflows and activities alike."
    )
    temporal_ui_url: str | None = Field(None, description="Root of the Temporal Web UI, for links. None: no links.")
    temporal_payload_keys: CommaSeparated[SecretStr] = Field(
        (),
        description="Fernet keys for the payloads in Temporal, comma separated: the first encrypts (`none` turns "
        "encryption off), all decrypt. Empty: not encrypted, since payloads contain references only (docs/keys.md).",
    )

    # Traces
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="Root of a collector for OTLP over HTTP, such as http://127.0.0.1:4318. None: no traces. "
        "OpenTelemetry's other variables apply too: OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, …",
    )
    trace_receivers: bool = Field(
        False,
        description="Send `traceparent` with traced deliveries. Off, because the header shows third parties which "
        "requests belong together; useful if the receivers are your own.",
    )

    # API
    api_host: str = Field("127.0.0.1", description="Address the API listens on; 0.0.0.0 in a container.")
    api_port: Port = Field(8080, description="Port the API listens on.")
    jwt_secrets: CommaSeparated[SecretStr] = Field(
        (),
        description="Keys for the API's tokens, comma separated: the first signs, all verify. Only the API needs them.",
    )
    access_token_seconds: int = Field(3600, ge=60, description="Lifetime of a JWT, and of a stolen one.")
    refresh_token_days: AtLeastOne = Field(30, description="Lifetime of a refresh token; each can be used once.")
    trusted_proxies: CommaSeparated[str] = Field(
        (),
        description="Addresses or networks of proxies whose X-Forwarded-For is trusted, comma separated: log-ins are "
        "throttled by client address. None: the peer is the client.",
    )
    connection_limit: AtLeastOne = Field(
        4000,
        description="Maximum open connections of an API process; further ones are answered with 503. At most the limit "
        "of open files less 200.",
    )
    event_limit_bytes: int = Field(256 * 1024, description="Maximum body of one event, and size of one in a batch.")
    batch_limit_bytes: int = Field(8 * 1024 * 1024, description="Maximum body of a batch of events.")
    batch_limit_events: int = Field(
        1000, description="Maximum events in one batch, so that its transaction stays short."
    )
    backlog_limit_events: AtLeastOne = Field(
        1_000_000, description="Load shedding: maximum unmatched events; beyond it, emits are answered with 503."
    )
    allow_unknown_fields: bool = Field(
        False, description="Accept unknown fields in event data, for a platform that is newer than this catalogue."
    )
    subscriptions_per_store: AtLeastOne = Field(500, description="Maximum webhooks of a store; stops a runaway script.")
    subscriptions_per_event: AtLeastOne = Field(
        50, description="Maximum webhooks of a store to one event name: bounds the cost of one emit."
    )

    # Allowed destinations
    allow_http: bool = Field(False, description="Accept http:// as well as https:// in webhook URLs.")
    allowed_ports: CommaSeparated[int] = Field(
        (443, 8443), description="Ports allowed in webhook URLs, comma separated. Empty: every port."
    )
    allowed_networks: CommaSeparated[IPv4Network | IPv6Network] = Field(
        (), description="Private or reserved networks that deliveries may reach, comma separated CIDRs."
    )
    ca_bundle: Path | None = Field(
        None, description="PEM file with certificate authorities to trust in addition to the public ones."
    )
    client_certificate: Path | None = Field(
        None,
        description="PEM file with the client certificate and key for receivers and authorization servers. A webhook's "
        "own takes its place at the receiver.",
    )
    egress_proxy_url: SecretStr | None = Field(
        None,
        description="HTTP proxy for every delivery and token request, as http://user:password@host:port, or https:// "
        "for TLS with the proxy. Told to CONNECT to the address that was checked. None: no proxy, also if HTTPS_PROXY "
        "is set.",
    )
    egress_no_proxy: CommaSeparated[NoProxy] = Field(
        (),
        description="Receivers and authorization servers that are reached without the proxy, comma separated: names, "
        "with all names below them, and networks of literal addresses.",
    )
    egress_proxy_resolves: bool = Field(
        False,
        description="Tell the proxy the receiver's name instead of an address, where public names cannot be resolved. "
        "The check of addresses (ALLOWED_NETWORKS) is then the proxy's: it must refuse private ones.",
    )
    http_transport: str | None = Field(
        None,
        pattern=r"^[\w.]+:[\w.]+$",
        description="Transport of httpx for deliveries, as package.module:function. The function gets our transport, "
        "which checks addresses, and returns the one to use: a wrapper of it, or another. None: our transport, which "
        "token requests always use.",
    )
    user_agent: str = Field("OpenLoyalty", description="User-Agent of deliveries, the same as the platform's.")

    # Attempts
    request_timeout_seconds: PositiveFloat = Field(
        15,
        le=LONGEST_REQUEST_SECONDS,
        description="Timeout of a whole request, connecting and reading included; a webhook's `timeoutSeconds` "
        "replaces it.",
    )
    retry_schedule_seconds: CommaSeparated[int] = Field(
        (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Delays after each failed attempt, comma separated; their number is the retry budget (3 days).",
    )
    subscription_concurrency: AtLeastOne = Field(
        50, description="Maximum requests in flight to one webhook, so that a slow receiver delays only itself."
    )
    attempts_in_flight: AtLeastOne = Field(
        512, description="Maximum requests in flight in one worker; each needs a socket and some 50 KB."
    )

    # Unhealthy receivers
    breaker_failures: AtLeastOne = Field(
        10, description="Consecutive failures that open a webhook's circuit breaker; deliveries are held then."
    )
    breaker_first_probe_seconds: PositiveFloat = Field(
        5, description="Delay until the first probe of an unhealthy receiver."
    )
    breaker_longest_probe_seconds: PositiveFloat = Field(
        60,
        description="Maximum interval between probes, which doubles each time; also the longest time until a repaired "
        "receiver is noticed, and the minimum wait behind an open breaker before a delivery gives up.",
    )

    disable_after_failing_days: PositiveFloat = Field(
        5, description="Time without a success after which a failing webhook is disabled …"
    )
    disable_after_deliveries: AtLeastOne = Field(
        10,
        description="… if at least this number of its deliveries are waiting or ended without success: a single one is "
        "no evidence.",
    )

    # Retention
    retention_days: int = Field(
        30, ge=1, le=3650, description="Retention of bodies, deliveries and attempts, in days; a store may set its own."
    )
    retention_exhausted_days: int = Field(
        90,
        ge=1,
        le=3650,
        description="Retention of events with a delivery that gave up or is open, so that they can be recovered; never "
        "fewer days than RETENTION_DAYS.",
    )
    event_id_days: int = Field(
        400,
        ge=32,
        le=36500,
        description="Retention of an event's id and a digest of its content, in days; an event emitted again after "
        "that is a new event. More than a year, so that a yearly notice is not emitted twice.",
    )

    # Operator notices
    notice_retry_schedule_seconds: CommaSeparated[int] = Field(
        (10, 60, 300, 1800, 7200, 21600),
        description="Delays after each failed attempt to send a notice, comma separated; after 9 hours a notice is "
        "outdated.",
    )
    smtp_host: str | None = Field(None, description="Mail server for notices to SMTP_RECIPIENTS. None: no mail.")
    smtp_port: Port = Field(587, description="Port of the mail server; 587 is for authenticated submission.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="starttls (587), tls (465), or none on a trusted network."
    )
    smtp_username: str | None = Field(None, description="User name for the mail server. None: no log-in.")
    smtp_password: SecretStr | None = Field(None, description="Password of SMTP_USERNAME.")
    smtp_sender: str | None = Field(None, description="Sender of the mails; required with SMTP_HOST.")
    smtp_recipients: CommaSeparated[str] = Field(
        (), description="Recipients of all stores' notices, comma separated; required with SMTP_HOST."
    )

    # Expiry
    expiry_database_url: SecretStr | None = Field(
        None,
        description="URL of the platform's PostgreSQL, to read expiring objects from (docs/expiring.md). None: only "
        "rows that are sent to the API, imported, or derived from events.",
    )
    expiry_statement_timeout_seconds: PositiveFloat = Field(
        60, description="Timeout of each statement in the platform's database, whose own work takes precedence."
    )
    expiry_local_hour: int = Field(
        6,
        ge=0,
        le=23,
        description="Local hour at which a store's schedules scan, so that notices arrive in the morning.",
    )
    expiry_late_notices: bool = Field(
        True, description="Emit a notice for a row that arrived after the scan of its day, unless it has expired."
    )
    expiry_days_back: int = Field(
        7,
        ge=0,
        le=366,
        description="Maximum days after which a missed day is still scanned, for rows that the platform has not marked "
        "as expired; after a longer outage the notices are useless.",
    )

    # Worker and relay
    worker_health_host: str = Field("127.0.0.1", description="Address of the worker's health and metrics endpoints.")
    worker_health_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's /healthz, /readyz and /metrics; 0: none."
    )
    batch_events: int = Field(
        600, ge=1, le=1000, description="Maximum events in one workflow; 1 starts a workflow for every event."
    )
    relay_poll_seconds: PositiveFloat = Field(
        0.5, description="Poll interval of the relay: the maximum delay of an event whose outbox notification was lost."
    )
    claim_lease_seconds: float = Field(
        3,
        ge=2,
        description="Lease of a claim: an event that is not matched by then is claimed again, under the same id.",
    )
    worker_build_id: str | None = Field(
        None,
        pattern=r"^[\w-][\w.-]*$",
        description="Version of this worker for Temporal, such as the commit or the release: workflows run on the "
        "version that `temporal promote` made current. None: on any worker.",
    )
    shutdown_grace_seconds: float = Field(
        SHUTDOWN_GRACE_SECONDS,
        ge=0,
        description="Time for attempts in progress to finish when the worker is asked to stop. A shorter one cuts off "
        "the longest requests.",
    )

    def __init__(self, **values: Any) -> None:
        folder = os.environ.get("SECRETS_DIR")  # the environment names the folder of secrets
        usable = folder is not None and Path(folder).is_dir()  # anything else is reported by _is_a_folder
        super().__init__(_secrets_dir=folder if usable else None, **values)

    @field_validator("secrets_dir")
    @classmethod
    def _is_a_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("is not a folder")
        return value

    @field_validator("database_url", "expiry_database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?(\+\w+)?://", value.get_secret_value()):
            raise ValueError("does not start with postgresql://")
        return value

    @field_validator("egress_proxy_url")
    @classmethod
    def _is_a_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        shape = r"https?://([^/?#@\s]*@)?([^/?#@:\s\[\]]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?/?"
        found = None if value is None else re.fullmatch(shape, value.get_secret_value())
        if value is not None and (found is None or int(found["port"] or 1) > 65535):
            raise ValueError("is not of the form http://user:password@host:port or https://…")
        return value

    @model_validator(mode="after")
    def _usable_secrets(self) -> Self:
        if not self.encryption_keys:
            raise ValueError("ENCRYPTION_KEYS is empty; make a key with `loyalty-webhooks new-encryption-key`")
        for key in self.encryption_keys:
            try:
                Fernet(key.get_secret_value())
            except ValueError as error:
                raise ValueError("ENCRYPTION_KEYS: each key is 32 bytes in URL-safe base64") from error
        for secret in self.jwt_secrets:
            if len(secret.get_secret_value()) < MINIMUM_JWT_SECRET_CHARACTERS:
                raise ValueError(f"JWT_SECRETS: each secret has at least {MINIMUM_JWT_SECRET_CHARACTERS} characters")
        return self

    @field_validator("temporal_payload_keys")
    @classmethod
    def _usable_payload_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        keys = [key.get_secret_value() for key in value]
        try:
            ciphers = [Fernet(key) for number, key in enumerate(keys) if number or key != "none"]
        except ValueError as error:
            raise ValueError("each key is 32 bytes in URL-safe base64; only the first may be none") from error
        if keys and not ciphers:
            raise ValueError("none alone decrypts nothing; leave the variable empty, or append the keys used so far")
        return value

    @model_validator(mode="after")
    def _usable_mail_server(self) -> Self:
        if self.smtp_host is not None and not (self.smtp_sender and self.smtp_recipients):
            raise ValueError("SMTP_HOST is set, so SMTP_SENDER and SMTP_RECIPIENTS have to be set too")
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD are set both or not at all")
        return self

    @property
    def expiry_asyncpg_url(self) -> str | None:
        """URL of the platform's database in asyncpg's form, or None."""
        url = self.expiry_database_url
        return None if url is None else f"postgresql://{url.get_secret_value().partition('://')[2]}"

    @property
    def plain_encryption_keys(self) -> list[str]:
        """Encryption keys as plain texts, for `storage.sealing.Sealer`."""
        return [key.get_secret_value() for key in self.encryption_keys]

    @property
    def plain_payload_keys(self) -> list[str]:
        """Payload keys as plain texts, for `temporal.codec`."""
        return [key.get_secret_value() for key in self.temporal_payload_keys]

    @property
    def url_rules(self) -> UrlRules:
        """Rules for the URLs that this installation sends to."""
        return UrlRules(
            allow_http=self.allow_http,
            allowed_ports=frozenset(self.allowed_ports) or None,
            allowed_networks=self.allowed_networks,
        )
