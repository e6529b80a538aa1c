"""API, key and store of a command, from its options or from the local stack, and the command's calls to that API."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import httpx
import typer

from commands.terminal import EXIT_FAILED, EXIT_USAGE, complain, failed
from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory
from local.event_sender import api_client
from local.stack_file import read_stack

DEFAULT_STORE = "default"

StoreOption: TypeAlias = Annotated[str | None, typer.Option(help="Store code; default: the store of the local stack.")]
ApiOption: TypeAlias = Annotated[
    str | None, typer.Option(envvar="LOYALTY_WEBHOOKS_API", help="Root URL of the API, http://host:port.")
]
KeyOption: TypeAlias = Annotated[
    str | None, typer.Option(envvar="LOYALTY_WEBHOOKS_KEY", help="Permanent API key.", show_default=False)
]
DataDirectoryOption: TypeAlias = Annotated[
    Path, typer.Option(help="Data directory of a local stack to take API, key and store from.")
]

_REASONS = {
    401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
    403: "this key lacks the right: subscription:write changes subscriptions, delivery:act acts on deliveries, "
    "delivery:read reads them",
}


@dataclass(frozen=True)
class Target:
    """An API, a key and a store. `get` and `post` print the reason of a refusal and raise typer.Exit."""

    api: str
    key: str
    store: str

    def get(self, path: str, **query: str) -> Any:
        """Return the response body of a GET of `/api/{store}/{path}`."""
        return self._ask("GET", path, params=query or None)

    def post(self, path: str, body: Any = None) -> Any:
        """POST to `/api/{store}/{path}`. Return the response body, or None if it is empty."""
        return self._ask("POST", path, json=body)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with httpx's options to `/api/{store}/{path}`.

        Raises typer.BadParameter if `api` is not an address, httpx.RequestError if no response arrives.
        """

        async def send() -> httpx.Response:
            async with api_client(self.api, self.key) as client:
                return await client.request(method, f"/api/{self.store}/{path}", **options)

        try:
            return asyncio.run(send())
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self.request(method, path, **options)
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise failed(f"{self.api} cannot be reached: {reason}. Is it running?", EXIT_USAGE) from None
        body = json_of(response)
        if response.is_success:
            return body
        status, facts = response.status_code, body if isinstance(body, dict) else {}
        if status == httpx.codes.NOT_FOUND:
            complain(f"Not found in store {self.store!r}, or this key has no access to the store.")
        elif status == httpx.codes.BAD_REQUEST and facts.get("errors"):
            complain("; ".join(f"{error['path']}: {error['message']}" for error in facts["errors"]))
        elif status == httpx.codes.CONFLICT and isinstance(body, dict):
            complain(f"Not done. {facts.get('message', '')}")
        else:
            raise self.unusable(status, _REASONS.get(status) or facts.get("message"))
        raise typer.Exit(EXIT_FAILED)

    def unusable(self, status: int, reason: Any) -> typer.Exit:
        """Print the reason of an answer that is no refusal of the request. Return the exception to raise."""
        reason = reason or "is this the root of a loyalty-webhooks API?"
        return failed(f"{self.api} answered {status}: {str(reason).rstrip('.')}.", EXIT_USAGE)


def json_of(response: httpx.Response) -> Any:
    """Return the JSON in the body, or None if it holds none."""
    try:
        return response.json()
    except ValueError:
        return None


def find_target(
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> Target:
    """Return the given API and key, else those of the stack that runs in `data_dir`.

    Raises typer.BadParameter with the missing options.
    """
    if api is not None and key is not None:
        target = Target(api, key, store or DEFAULT_STORE)
    else:
        path = DataDirectory.at(data_dir).stack
        try:
            stack = read_stack(path)
        except OSError as error:
            raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
        if stack is None:
            raise typer.BadParameter(
                f"no stack runs in {path.parent}: start one with `loyalty-webhooks up`, or pass the API with --api "
                "(LOYALTY_WEBHOOKS_API) and its key with --key (LOYALTY_WEBHOOKS_KEY)"
            )
        if api is not None and api.rstrip("/") != stack.api:
            # The local stack's key is a secret of that stack: it must not be sent to another host.
            raise typer.BadParameter("--api needs --key (or LOYALTY_WEBHOOKS_KEY): each API has its own keys")
        target = Target(stack.api, key or stack.api_key, store or stack.store)
    if not target.store or "/" in target.store:
        raise typer.BadParameter(f"{target.store!r} is not a store code")
    return target


_OPTIONS = inspect.signature(find_target).parameters


def with_target(command: Callable[..., None]) -> Callable[..., None]:
    """Pass a target as the command's first argument, and add the options of `find_target` behind the command's own."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        target = find_target(**{name: given.pop(name) for name in _OPTIONS})
        command(target, **given)

    own = list(inspect.signature(command).parameters.values())[1:]
    run.__signature__ = inspect.Signature([*own, *_OPTIONS.values()])  # type: ignore[attr-defined]  # read by typer
    return run
