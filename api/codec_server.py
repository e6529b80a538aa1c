"""Temporal codec server: decrypts payloads for the Web UI and the CLI.

POST /decode and /encode take `{"payloads": [{"metadata": {"encoding": …}, "data": …}]}` with values in base64,
protobuf's JSON form (https://docs.temporal.io/codec-server). A client with access can read every payload, so the server
answers only pages of the given origins; run it on a loopback address or behind an authenticating proxy.
"""

from collections.abc import Awaitable, Callable, Sequence

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.api.common.v1 import Payload, Payloads

from temporal.codec import EncryptingCodec, PayloadKeyError

LARGEST_REQUEST_BYTES = 16 * 1024 * 1024
"""Maximum request. A page of the Web UI shows a history of at most a few megabytes."""

Coding = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


def codec_app(codec: EncryptingCodec, *, origins: Sequence[str], hosts: Sequence[str]) -> Starlette:
    """Build the server. `origins`: those of the Web UI, as https://host:port; `hosts`: accepted Host headers."""
    return Starlette(
        routes=[
            Route("/decode", _endpoint(codec.decode), methods=["POST"]),
            Route("/encode", _endpoint(codec.encode), methods=["POST"]),
        ],
        middleware=[
            # DNS rebinding: a foreign page could point its own name at this address, so only known hosts are served.
            Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts]),
            Middleware(
                CORSMiddleware,
                allow_origins=[*origins],
                allow_methods=["POST"],
                allow_headers=["Authorization", "Content-Type", "X-Namespace"],
                allow_credentials=True,
            ),
        ],
    )


def _endpoint(coding: Coding) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # Browsers send a "simple" request without a CORS preflight. JSON forces the preflight, which checks the origin.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refusal(415, "the body is application/json")
        if int(request.headers.get("content-length", LARGEST_REQUEST_BYTES + 1)) > LARGEST_REQUEST_BYTES:
            return _refusal(413, f"a body has a Content-Length of at most {LARGEST_REQUEST_BYTES} bytes")
        try:
            payloads = json_format.Parse(await request.body(), Payloads())
        except (json_format.ParseError, UnicodeDecodeError) as error:
            return _refusal(400, f"not a list of payloads: {error}")
        try:
            coded = await coding(payloads.payloads)
        except PayloadKeyError as error:
            return _refusal(422, str(error))
        return JSONResponse(json_format.MessageToDict(Payloads(payloads=coded)))

    return endpoint


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status_code=status)
