"""`loyalty-webhooks api`: serve the HTTP API, the panel and the API documentation."""

import gc
from functools import partial

import uvicorn

from api.app import create_app
from commands.configuration import raise_descriptor_limit, read_settings
from commands.terminal import EXIT_USAGE, failed
from commands.traces import open_traces
from telemetry.connections import BoundedProtocol, ConnectionLimits
from telemetry.logs import configure_logs

GRACE_SECONDS = 5
"""Time for in-flight requests at shutdown. A request takes milliseconds; an event stream would stay open for ever."""

KEEP_ALIVE_SECONDS = 75
"""Idle time of a connection. Longer than that of load balancers, so that they close the connection first."""

BACKLOG = 2048
"""Maximum connections waiting for accept(). Many emitters may start at once."""

OTHER_FILES = 200
"""Open files besides the connections of clients: libraries, database pool, Temporal, log. Some 60 are in use."""


def api() -> None:
    """Run one API process, the panel included.

    Settings come from the environment (docs/settings.md): DATABASE_URL, ENCRYPTION_KEYS, JWT_SECRETS, API_HOST,
    API_PORT, TEMPORAL_ADDRESS and others. Several may run side by side. SIGTERM or Ctrl-C completes requests in
    flight, then stops.
    """
    settings = read_settings()
    if not settings.jwt_secrets:
        needed = "JWT_SECRETS: the API needs a secret of at least 32 random characters, the same in all API processes"
        raise failed(needed, EXIT_USAGE)
    configure_logs(settings.log_format, settings.log_level)
    connections = max(1, min(settings.connection_limit, raise_descriptor_limit() - OTHER_FILES))
    app = create_app(settings, traces=open_traces(settings, "api"))
    limits = ConnectionLimits(connections, app.state.metrics.connections, "CONNECTION_LIMIT")
    gc.freeze()  # the routes too live as long as the process
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http=partial(BoundedProtocol, limits),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
