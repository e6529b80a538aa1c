"""Temporal's codec server protocol: its Web UI and CLI send payloads here, to be decrypted for a person.

POST /decode and /encode, `{"payloads": [{"metadata": {"encoding": …}, "data": …}]}`, values in base64: protobuf's JSON
form (https://docs.temporal.io/codec-server). Whoever may ask sees what the keys hide, so it answers only pages of
the given origins and is meant for a loopback address, or for a place behind a proxy that knows who asks.
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
"""A page of the Web UI shows a history of at most a few megabytes."""

Coding = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


def codec_app(codec: EncryptingCodec, *, origins: Sequence[str], hosts: Sequence[str]) -> Starlette:
    """The server's routes. `origins`: of the Web UI, as https://host:port; `hosts`: names it may be asked by."""
    return Starlette(
        routes=[
            Route("/decode", _endpoint(codec.decode), methods=["POST"]),
            Route("/encode", _endpoint(codec.encode), methods=["POST"]),
        ],
        middleware=[
            # A page of anybody's could rebind its own name to this address: only known names are answered.
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
        # A simple request needs no permission of the browser's; one with JSON does, and is then held to the origins.
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
