"""`loyalty-webhooks codec-server`: decrypt Temporal payloads for the Web UI."""

from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvicorn

from api.codec_server import codec_app
from commands.configuration import read_settings
from commands.terminal import EXIT_USAGE, failed
from telemetry.connections import BoundedProtocol, ConnectionLimits
from telemetry.logs import configure_logs
from temporal.codec import EncryptingCodec

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def codec_server(
    ui_origin: Annotated[
        list[str], typer.Option(help="Origin of the Web UI, as https://temporal.example.com; repeatable.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8888,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(help="Host name that an authenticating proxy sends; required to listen beyond loopback."),
    ] = None,
) -> None:
    """Decrypt payloads encrypted with TEMPORAL_PAYLOAD_KEYS for the Temporal Web UI in a browser on this machine.

    Enter the address http://127.0.0.1:8888 in the Web UI behind the glasses icon. The server does not authenticate
    callers, so it listens on a loopback address only, unless --behind-proxy names an authenticating proxy. See
    docs/keys.md.
    """
    keys = read_settings().plain_payload_keys
    if not keys:
        raise failed(
            "TEMPORAL_PAYLOAD_KEYS is empty: nothing is encrypted, so there is nothing to decrypt.", EXIT_USAGE
        )
    if host not in LOOPBACK and not behind_proxy:
        raise failed(
            f"Every client that reaches {host}:{port} could read all payloads. Listen on 127.0.0.1, or pass with "
            "--behind-proxy the host name that an authenticating proxy sends.",
            EXIT_USAGE,
        )
    for origin in ui_origin:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise typer.BadParameter(f"{origin} is not an origin, as https://host:port", param_hint="--ui-origin")
    configure_logs("text", "INFO")
    app = codec_app(EncryptingCodec(keys), origins=ui_origin, hosts=[*LOOPBACK, *(behind_proxy or ())])
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=partial(BoundedProtocol, ConnectionLimits()),  # type: ignore[arg-type]  # called like a class
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
    )
