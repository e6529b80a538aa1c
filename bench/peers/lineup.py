"""Who takes part: on which servers, with which worker processes, and how much of it is emitted in a round."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contestant:
    """`module` emits and works; `worker` are the arguments of Python that start its workers.

    `deliveries` in a burst, at one and at five subscriptions: some seconds' worth.
    """

    name: str
    title: str
    module: str
    servers: tuple[str, ...]
    worker: tuple[str, ...]
    deliveries: tuple[int, int]
    prepare: tuple[str, ...] = ()
    """Arguments of Python that make its tables, before anything else is started."""
    bound: bool = False
    """An upper bound rather than a peer."""


OURS = Contestant("ours", "Loyalty Webhooks", "ours", (), (), (10_000, 15_000))

PEERS = (
    Contestant(
        "celery",
        "Celery, acks late (Redis)",
        "celery_redis",
        ("redis",),
        (
            *("-m", "celery", "-A", "bench.peers.celery_redis", "worker", "--loglevel", "warning"),
            *("--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        (3_000, 3_000),
    ),
    Contestant(
        "dramatiq",
        "Dramatiq (Redis)",
        "dramatiq_redis",
        ("redis",),
        ("-m", "dramatiq", "bench.peers.dramatiq_redis", "--processes", "2", "--threads", "8"),
        (6_000, 6_000),
    ),
    Contestant(
        "taskiq",
        "TaskIQ (Redis streams)",
        "taskiq_redis_streams",
        ("redis",),
        (
            *("-m", "taskiq", "worker", "bench.peers.taskiq_redis_streams:broker"),
            *("--workers", "2", "--log-level", "WARNING"),
        ),
        (8_000, 8_000),
    ),
    Contestant(
        "procrastinate",
        "Procrastinate (PostgreSQL)",
        "procrastinate_postgres",
        ("postgres",),
        ("-m", "bench.peers.procrastinate_postgres"),
        (1_500, 1_500),
        prepare=("-m", "procrastinate", "--app=bench.peers.procrastinate_postgres.app", "schema", "--apply"),
    ),
    Contestant(
        "dbos",
        "DBOS (PostgreSQL)",
        "dbos_postgres",
        ("postgres",),
        ("-m", "bench.peers.dbos_postgres"),
        (1_000, 1_000),
        prepare=("-m", "bench.peers.dbos_postgres", "prepare"),
    ),
    Contestant(
        "textbook",
        "Temporal, textbook design",
        "temporal_textbook",
        ("temporal",),
        ("-m", "bench.peers.temporal_textbook"),
        (120, 400),
    ),
    Contestant(
        "bare",
        "bare worker (PostgreSQL)",
        "bare_postgres",
        ("postgres",),
        ("-m", "bench.peers.bare_postgres"),
        (15_000, 20_000),
        bound=True,
    ),
)

EVERYBODY = (OURS, *PEERS)
