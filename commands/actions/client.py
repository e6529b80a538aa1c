"""API client of the commands; translates each refusal into a message and an exit code."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import typer

from commands.complaints import complain
from commands.target import Target
from local.event_sender import api_client

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 2
"""Exit code if the API could not be reached. Wrong usage exits with 2 too, as everywhere on the command line."""

_REASONS = {
    401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
    403: "this key lacks the right: subscription:write changes subscriptions, delivery:act acts on deliveries, "
    "delivery:read reads them",
}


class ActionClient:
    """Client for one section of a store's API. A refusal prints the reason and raises typer.Exit."""

    def __init__(self, target: Target, section: str = "webhook/") -> None:
        self._target = target
        self._section = section

    def get(self, path: str, **query: str) -> Any:
        """Return the response body of a GET of `/api/{store}/{section}{path}`."""
        return self._ask("GET", path, None, query)

    def post(self, path: str, body: Any = None) -> Any:
        """POST to `/api/{store}/{section}{path}`. Return the response body, or None if it is empty."""
        return self._ask("POST", path, body, {})

    def _ask(self, method: str, path: str, content: Any, query: Mapping[str, str]) -> Any:
        root = self._target.api
        try:
            response = asyncio.run(self._send(method, path, content, query))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        except httpx.RequestError as error:
            complain(f"{root} cannot be reached: {str(error) or type(error).__name__}. Is it running?")
            raise typer.Exit(EXIT_UNREACHABLE) from None
        body = _json(response)
        if response.is_success:
            return body
        status = response.status_code
        if status == httpx.codes.NOT_FOUND:
            complain(f"Not found in store {self._target.store!r}, or this key has no access to the store.")
        elif status == httpx.codes.BAD_REQUEST and isinstance(body, dict) and body.get("errors"):
            complain("; ".join(f"{error['path']}: {error['message']}" for error in body["errors"]))
        elif status == httpx.codes.CONFLICT and isinstance(body, dict):
            complain(f"Not done. {body.get('message', '')}")
        else:
            message = body.get("message") if isinstance(body, dict) else None
            reason = _REASONS.get(status) or message or "is this the root of a loyalty-webhooks API?"
            complain(f"{root} answered {status}: {str(reason).rstrip('.')}.")
            raise typer.Exit(EXIT_UNREACHABLE)
        raise typer.Exit(EXIT_REFUSED)

    async def _send(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> httpx.Response:
        async with api_client(self._target.api, self._target.key) as client:
            url = f"/api/{self._target.store}/{self._section}{path}"
            return await client.request(method, url, json=body, params=query or None)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
