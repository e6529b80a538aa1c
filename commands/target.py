"""Which API a command speaks to, with which key and about which store: named, or those of a local stack."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from local.data_directory import DEFAULT_DATA_DIRECTORY, DataDirectory
from local.stack_file import read_stack

DEFAULT_STORE = "default"

StoreOption: TypeAlias = Annotated[str | None, typer.Option(help="Store code; default: that of the local stack.")]
ApiOption: TypeAlias = Annotated[
    str | None, typer.Option(envvar="LOYALTY_WEBHOOKS_API", help="The API's root, http://host:port.")
]
KeyOption: TypeAlias = Annotated[
    str | None, typer.Option(envvar="LOYALTY_WEBHOOKS_KEY", help="A permanent API key.", show_default=False)
]
DataDirectoryOption: TypeAlias = Annotated[
    Path, typer.Option(help="Data directory of a local stack, which names its API, key and store.")
]


@dataclass(frozen=True)
class Target:
    """An API, a key and a store."""

    api: str
    key: str
    store: str


def find_target(api: str | None, key: str | None, store: str | None, data_dir: Path = DEFAULT_DATA_DIRECTORY) -> Target:
    """What is named, else that of the stack that runs in `data_dir`. Raises typer.BadParameter, saying what to name."""
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
                f"no stack runs in {path.parent}: start one with `loyalty-webhooks up`, or name the API with --api "
                "(LOYALTY_WEBHOOKS_API) and its key with --key (LOYALTY_WEBHOOKS_KEY)"
            )
        if api is not None and api.rstrip("/") != stack.api:
            raise typer.BadParameter("--api needs --key (or LOYALTY_WEBHOOKS_KEY): a key goes to its own API alone")
        target = Target(stack.api, key or stack.api_key, store or stack.store)
    if not target.store or "/" in target.store:
        raise typer.BadParameter(f"{target.store!r} is no store code")
    return target
