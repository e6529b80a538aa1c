"""`loyalty-webhooks codec-server`: show what Temporal holds encrypted in its Web UI."""

from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvicorn

from api.codec_server import codec_app
from commands.complaints import complain
from commands.configuration import EXIT_USAGE, read_settings
from telemetry.logs import configure_logs
from temporal.codec import EncryptingCodec

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("codec-server")(codec_server)


def codec_server(
    ui_origin: Annotated[
        list[str], typer.Option(help="Where the Web UI is, as https://temporal.example.com; may be repeated.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8888,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(help="Name that a proxy which knows who asks calls this by; needed for other than loopback."),
    ] = None,
) -> None:
    """Decrypt, for the Temporal Web UI in a browser on this machine, what TEMPORAL_PAYLOAD_KEYS encrypted.

    In the Web UI, the icon with the glasses takes the address: http://127.0.0.1:8888. It asks for no password, so it
    listens on a loopback address unless --behind-proxy says that somebody else asks for one. docs/keys.md tells more.
    """
    keys = read_settings().plain_payload_keys
    if not keys:
        complain("TEMPORAL_PAYLOAD_KEYS is empty: nothing is encrypted, so there is nothing to decrypt.")
        raise typer.Exit(EXIT_USAGE)
    if host not in LOOPBACK and not behind_proxy:
        complain(
            f"Whoever reaches {host}:{port} could read everything. Listen on 127.0.0.1, or name with --behind-proxy "
            "the host name under which a proxy that authenticates people passes them on."
        )
        raise typer.Exit(EXIT_USAGE)
    for origin in ui_origin:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise typer.BadParameter(f"{origin} is not an origin, as https://host:port", param_hint="--ui-origin")
    configure_logs("text", "INFO")
    app = codec_app(EncryptingCodec(keys), origins=ui_origin, hosts=[*LOOPBACK, *(behind_proxy or ())])
    uvicorn.run(app, host=host, port=port, ws="none", lifespan="off", log_config=None, server_header=False)
