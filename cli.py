"""The command `loyalty-webhooks`: the command families of `commands/`, put together."""

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
"""Each module of `commands/` and the commands its `register` adds, in the order of `--help`: groups come last."""


TEMPORAL_RUNTIME = "temporalio.bridge.runtime"


def command_line(families: Iterable[str] = FAMILIES) -> typer.Typer:
    """The command line with these families, by default all.

    Only what is needed is imported: with everything, each process of the stack would take a second of CPU longer to
    start and 50 MB more.
    """
    app = typer.Typer(
        name="loyalty-webhooks",
        help="Durable webhook delivery for loyalty programmes.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,  # locals hold secrets
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_keep_the_command_names)
    for family in families:
        importlib.import_module(f"commands.{family}").register(app)
    return app


def _keep_the_command_names() -> None:
    """Without a callback, an app with one command would not take that command's name."""


def families_of(arguments: list[str]) -> Iterable[str]:
    """The families a call with these arguments needs: one when it begins with a command, all to show or complete."""
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
    """End the process without taking the interpreter apart first.

    Temporal's client has threads of its own, and one that hands back a reference while the interpreter ends aborts the
    process: one short command of six ended so, its work done (temporalio/sdk-python, issue 300).
    """
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main()
