"""API, key and store of a command: from its options, or from the local stack."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory
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


@dataclass(frozen=True)
class Target:
    """An API, a key and a store."""

    api: str
    key: str
    store: str


def find_target(api: str | None, key: str | None, store: str | None, data_dir: Path = DEFAULT_DATA_DIRECTORY) -> Target:
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
