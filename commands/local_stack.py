"""Find the local stack of a command, and add the options of a finder to a command."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer

from commands.terminal import JsonOption
from local.data_directory import DataDirectory, StackError
from local.stack_file import Stack, running_stack


def find_stack(data: DataDirectory, otherwise: str) -> Stack:
    """Return the stack that runs in `data`. Raises typer.BadParameter with `otherwise`, the remedy without a stack."""
    try:
        stack = running_stack(data)
        if stack is None and data.is_locked():
            raise typer.BadParameter(f"the stack in {data.root} is starting or stopping: try again in some seconds")
    except StackError as error:
        raise typer.BadParameter(str(error)) from error
    if stack is None:
        raise typer.BadParameter(f"no stack is up in {data.root}: start one with `loyalty-webhooks up`, or {otherwise}")
    return stack


def passing(find: Callable[..., Any], *, json: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that passes what `find` returns to a command, and adds the options of `find` and `--json`."""
    options = inspect.signature(find).parameters
    as_json = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*others: Any, **given: Any) -> None:
            given.pop("as_json", None)  # its callback has remembered it
            found = find(**{name: given.pop(name) for name in options})
            command(found, *others, **given)

        own = list(inspect.signature(command).parameters.values())[1:]
        run.__signature__ = inspect.Signature([*own, *options.values(), *([as_json] if json else ())])  # type: ignore[attr-defined]  # read by typer
        return run

    return decorate
