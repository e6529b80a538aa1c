"""One call of the API on a person's behalf, and what its refusal means to whoever typed the command."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import typer

from commands.complaints import complain
from commands.target import Target
from local.event_sender import api_client

EXIT_REFUSED = 1
EXIT_NOT_ASKED = 2  # wrong usage too, as everywhere on the command line

_REASONS = {
    401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
    403: "this key lacks the right: subscription:write changes subscriptions, delivery:act acts on deliveries, "
    "delivery:read looks at them",
}


class ActionClient:
    """The API of a target, below a section of its store. Whatever is refused ends the command, saying why."""

    def __init__(self, target: Target, section: str = "webhook/") -> None:
        self._target = target
        self._section = section

    def get(self, path: str, **query: str) -> Any:
        """What the API answers about the store's `/{section}{path}`."""
        return self._ask("GET", path, None, query)

    def post(self, path: str, body: Any = None) -> Any:
        """Have the API act on the store's `/{section}{path}`; None where it answers nothing."""
        return self._ask("POST", path, body, {})

    def _ask(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        root = self._target.api
        try:
            response = asyncio.run(self._send(method, path, body, query))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        except httpx.RequestError as error:
            complain(f"{root} cannot be reached: {str(error) or type(error).__name__}. Is it running?")
            raise typer.Exit(EXIT_NOT_ASKED) from None
        told = _told(response)
        if response.is_success:
            return told
        status = response.status_code
        if status == httpx.codes.NOT_FOUND:
            complain(f"There is no such thing in store {self._target.store!r}, or this key may not enter the store.")
        elif status == httpx.codes.BAD_REQUEST and isinstance(told, dict) and told.get("errors"):
            complain("; ".join(f"{error['path']}: {error['message']}" for error in told["errors"]))
        elif status == httpx.codes.CONFLICT and isinstance(told, dict):
            complain(f"Not done. {told.get('message', '')}")
        else:
            message = told.get("message") if isinstance(told, dict) else None
            reason = _REASONS.get(status) or message or "is this the root of a loyalty-webhooks API?"
            complain(f"{root} answered {status}: {str(reason).rstrip('.')}.")
            raise typer.Exit(EXIT_NOT_ASKED)
        raise typer.Exit(EXIT_REFUSED)

    async def _send(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> httpx.Response:
        async with api_client(self._target.api, self._target.key) as client:
            url = f"/api/{self._target.store}/{self._section}{path}"
            return await client.request(method, url, json=body, params=query or None)


def _told(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
