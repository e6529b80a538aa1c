"""API, key and store of a command, from its options or from the local stack, and the command's calls to that API."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from commands.local_stack import find_stack, passing
from commands.terminal import EXIT_FAILED, EXIT_USAGE, complain, failed
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory
from local.event_sender import answer_of, client_options

DEFAULT_STORE = "default"


REASONS = {
    401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
    403: "this key lacks the right: subscription:write changes webhooks, subscription:read reads them, "
    "delivery:act acts on deliveries, delivery:read reads them",
}


@dataclass(frozen=True)
class Target:
    """An API, a key and a store. `get`, `post` and `put` print the reason of a refusal and raise typer.Exit."""

    api: str
    key: str
    store: str

    def get(self, path: str, **query: str) -> Any:
        """Return the response body of a GET of `/api/{store}/{path}`."""
        return self._ask("GET", path, params=query or None)

    def post(self, path: str, body: Any = None) -> Any:
        """POST to `/api/{store}/{path}`. Return the response body, or None if it is empty."""
        return self._ask("POST", path, json=body)

    def put(self, path: str, body: Any) -> Any:
        """PUT to `/api/{store}/{path}`. Return the response body, or None if it is empty."""
        return self._ask("PUT", path, json=body)

    def request(self, method: str, path: str, *, if_silent: str = "", **options: Any) -> httpx.Response:
        """Send a request to `/api/{store}/{path}`. Without a response, print why, and `if_silent` if it may be done."""
        try:
            # Not in an event loop of its own, in which a Ctrl-C at the end of the request would be lost.
            with httpx.Client(**client_options(self.api, self.key)) as client:
                return client.request(method, f"/api/{self.store}/{path}", **options)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        except httpx.ConnectError as error:
            raise failed(f"{self.api} cannot be reached: {error}. Is it running?", EXIT_USAGE) from None
        except httpx.RequestError as error:
            silence = f"{self.api} did not answer: {str(error) or type(error).__name__}."
            raise failed(f"{silence} {if_silent}".strip(), EXIT_USAGE) from None

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        response = self.request(method, path, **options)
        if response.is_success:
            with suppress(ValueError):
                return response.json() if response.content else None
        status, facts = response.status_code, answer_of(response)
        if status == httpx.codes.NOT_FOUND:
            complain(f"Not found in store {self.store!r}, or this key has no access to the store.")
        elif status == httpx.codes.BAD_REQUEST and facts.get("errors"):
            complain("; ".join(f"{error['path']}: {error['message']}" for error in facts["errors"]))
        elif status == httpx.codes.CONFLICT and facts:
            complain(f"Not done. {facts.get('message', '')}")
        else:
            raise self.unusable(status, REASONS.get(status) or facts.get("message"))
        raise typer.Exit(EXIT_FAILED)

    def unusable(self, status: int, reason: Any) -> typer.Exit:
        """Print the reason of an answer that is no refusal of the request. Return the exception to raise."""
        reason = reason or "is this the root of a loyalty-webhooks API?"
        return failed(f"{self.api} answered {status}: {str(reason).rstrip('.')}.", EXIT_USAGE)


def find_target(
    store: Annotated[str | None, typer.Option(help="Store code; default: the local stack's, else `default`.")] = None,
    api: Annotated[
        str | None, typer.Option(envvar="LOYALTY_WEBHOOKS_API", help="Root URL of the API, http://host:port.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="LOYALTY_WEBHOOKS_KEY", help="Permanent API key.", show_default=False)
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Data directory of a local stack to take API, key and store from.",
            show_default=str(DEFAULT_DATA_DIRECTORY),
        ),
    ] = None,
    *,
    context: typer.Context,
) -> Target:
    """Return the given API and key, else those of the stack that runs in `data_dir`.

    A given `data_dir` wins over the environment. Raises typer.BadParameter with the missing options.
    """
    source = context.get_parameter_source
    if data_dir is not None and source("data_dir") not in (source("api"), source("key")):
        api = key = None  # of the environment
    if api is not None and key is not None:
        target = Target(api, key, store or DEFAULT_STORE)
    else:
        stack = find_stack(
            DataDirectory.at(data_dir or DEFAULT_DATA_DIRECTORY),
            "pass the API with --api (LOYALTY_WEBHOOKS_API) and its key with --key (LOYALTY_WEBHOOKS_KEY)",
        )
        if api is not None and api.rstrip("/") != stack.api:
            # The local stack's key is a secret of that stack: it must not be sent to another host.
            raise typer.BadParameter("--api needs --key (or LOYALTY_WEBHOOKS_KEY): each API has its own keys")
        target = Target(stack.api, key or stack.api_key, store or stack.store)
    if not target.store or "/" in target.store:
        raise typer.BadParameter(f"{target.store!r} is not a store code")
    return target


with_target = passing(find_target)
