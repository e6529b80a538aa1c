"""`loyalty-webhooks api`: serve the HTTP API, the panel and the documentation, until told to stop."""

import gc

import typer
import uvicorn

from api.app import create_app
from commands.complaints import complain
from commands.configuration import EXIT_USAGE, read_settings
from commands.traces import open_traces
from telemetry.logs import configure_logs

GRACE_SECONDS = 5  # for requests under way; each takes milliseconds, an open event stream would take for ever
KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep an idle connection, so that they close it and not we
BACKLOG = 2048  # connections that may wait to be taken, when many emitters start at once


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("api")(api)


def api() -> None:
    """Run one API process.

    Settings come from the environment (docs/settings.md): DATABASE_URL, ENCRYPTION_KEYS, JWT_SECRETS, API_HOST,
    API_PORT, TEMPORAL_ADDRESS and others. Several may run side by side. SIGTERM or Ctrl-C finishes what is under way.
    """
    settings = read_settings()
    if not settings.jwt_secrets:
        complain("JWT_SECRETS: the API needs one, 32 random characters or more, the same in all its processes")
        raise typer.Exit(EXIT_USAGE)
    configure_logs(settings.log_format, settings.log_level)
    app = create_app(settings, traces=open_traces(settings, "api"))
    # What is imported and built by now lives as long as the process. Left to the collector it is walked through again
    # and again, 60 ms and more each time, during which no request is answered.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
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
