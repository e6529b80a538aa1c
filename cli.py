"""The command `loyalty-webhooks`, composed of the command families in `commands/`."""

import importlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

import typer

FAMILIES = {
    "up": ("up",),
    "down": ("down",),
    "status": ("status",),
    "emit": ("emit",),
    "listen": ("listen",),
    "actions.explain": ("explain",),
    "actions.bulk": ("recover", "backfill"),
    "api": ("api",),
    "worker": ("worker",),
    "migrate": ("migrate",),
    "version": ("version",),
    "new_encryption_key": ("new-encryption-key",),
    "rotate_encryption_key": ("rotate-encryption-key",),
    "erase": ("erase",),
    "reconcile": ("reconcile",),
    "codec_server": ("codec-server",),
    "expiry": ("expiry",),
    "schedules": ("schedules",),
    "temporal": ("temporal",),
    "actions.command": ("subscription", "delivery"),
    "access.admin": ("admin", "stores", "keys"),
    "subscriptions.command": ("subscriptions",),
}
"""Modules of `commands/` with the commands that their `register` adds, in the order of `--help`; groups come last."""

TEMPORAL_RUNTIME = "temporalio.bridge.runtime"


def command_line(families: Iterable[str] = FAMILIES) -> typer.Typer:
    """Return the command line with these families, by default all.

    Only the given families are imported: with all of them, each process of the stack would take a second of CPU more to
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
    app.callback()(_require_command_names)
    for family in families:
        importlib.import_module(f"commands.{family}").register(app)
    return app


def _require_command_names() -> None:
    """Do nothing. Without a callback, an app with a single command would not accept that command's name."""


def families_of(arguments: list[str]) -> Iterable[str]:
    """Return the families that the arguments need: the command's family, or all for help and completion."""
    return [family for family, commands in FAMILIES.items() if arguments[:1] and arguments[0] in commands] or FAMILIES


def main() -> None:
    """Run the command line."""
    try:
        command_line(families_of(sys.argv[1:]))()
    except SystemExit as end:
        if TEMPORAL_RUNTIME in sys.modules:
            _end_at_once(end.code)
        raise


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
