"""The command `loyalty-webhooks`, composed of the commands in `commands/`."""

import gc
import importlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

COMMANDS = {
    "up": "stack",
    "down": "stack",
    "status": "stack",
    "emit": "emit",
    "listen": "listen",
    "tail": "tail",
    "explain": "actions.command",
    "recover": "actions.bulk",
    "backfill": "actions.bulk",
    "api": "api",
    "worker": "worker",
    "migrate": "database.migrate",
    "version": "version",
    "new-encryption-key": "database.encryption_keys",
    "rotate-encryption-key": "database.encryption_keys",
    "erase": "database.erase",
    "reconcile": "database.reconcile",
    "codec-server": "codec_server",
    "expiry": "database.expiry",
    "schedules": "actions.schedules",
    "temporal": "temporal",
    "subscription": "actions.command",
    "delivery": "actions.command",
    "admin": "database.admin",
    "stores": "database.admin",
    "keys": "database.admin",
    "subscriptions": "subscriptions.command",
}
"""Commands with their module in `commands/`, in the order of `--help`; groups come last.

A command is the module's function of that name, a group its `typer.Typer`.
"""

TEMPORAL_RUNTIME = "temporalio.bridge.runtime"


def command_line(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with these commands, by default all.

    Only their modules are imported: with all of them, each process of the stack would take a second of CPU more to
    start, and 50 MB more memory.
    """
    app = typer.Typer(
        name="loyalty-webhooks",
        help="Durable webhook delivery for loyalty programmes.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,  # locals hold secrets
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)  # without one, an app with a single command would not accept that command's name
    for name in names:
        command = getattr(importlib.import_module(f"commands.{COMMANDS[name]}"), name.replace("-", "_"))
        if isinstance(command, typer.Typer):
            for one in command.registered_commands:
                one.help = _unwrapped(one.help or (one.callback and one.callback.__doc__))
            app.add_typer(command, name=name)
        else:
            app.command(name, help=_unwrapped(command.__doc__))(command)
    return app


def _unwrapped(text: str | None) -> str:
    """Return a docstring with a line for each paragraph, which the terminal breaks at its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


def _show_version(wanted: bool) -> None:
    if wanted:
        command_line(["version"])(["version"])


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def needed(arguments: list[str]) -> Iterable[str]:
    """Return the commands to load for the arguments: the called one, or all for help and completion."""
    return arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS


def main() -> None:
    """Run the command line."""
    try:
        _loaded(sys.argv[1:])()
    except SystemExit as end:
        if TEMPORAL_RUNTIME in sys.modules:
            _end_at_once(end.code)
        raise


def _loaded(arguments: list[str]) -> typer.Typer:
    """Return the command line for the arguments, loaded without garbage collection.

    Modules live as long as the process. Traversing them, again and again, would take 15 % of the CPU of a start and
    block a running process for 60 ms or more at a time.
    """
    gc.disable()
    try:
        return command_line(needed(arguments))
    finally:
        gc.freeze()
        gc.enable()


def _end_at_once(status: str | int | None) -> NoReturn:
    """End the process without finalising the interpreter.

    Temporal's client has threads of its own. A thread that releases a reference during finalisation aborts the process:
    one in six short commands ended so, after its work was done (temporalio/sdk-python, issue 300).
    """
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader of the stream is gone
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main()
