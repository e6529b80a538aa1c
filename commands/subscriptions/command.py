"""`loyalty-webhooks subscriptions export|diff|apply`: manage the subscriptions of a store as a file."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO, TypeVar

import typer
from rich.console import Console

from api.subscription_sets.models import PlannedChange, SetAnswer
from commands.complaints import complain
from commands.subscriptions.client import ApiTrouble, EntriesRefused, NoAnswer, PlanChanged, SubscriptionClient
from commands.subscriptions.export import export_text
from commands.subscriptions.file import (
    STANDARD_INPUT,
    FileRefused,
    SubscriptionFile,
    read_subscription_file,
    written_paths,
)
from commands.subscriptions.plan import show_changes, show_keys
from commands.target import ApiOption, DataDirectoryOption, KeyOption, StoreOption, Target, find_target
from local.data_directory import DEFAULT_DATA_DIRECTORY, PRIVATE_FILE

R = TypeVar("R")

EXIT_DIFFERENT = 1
EXIT_FAILED = 2
"""Exit code of a failure. Wrong usage exits with 2 too, as everywhere on the command line."""

MAX_PLANS = 3
"""Maximum number of plans, if other clients keep changing the store."""

UNSURE = (
    "The outcome is unknown: `loyalty-webhooks subscriptions diff` shows it. Signing keys it created are lost, so "
    "rotate the keys of subscriptions for which it enabled signing."
)

subscriptions = typer.Typer(help="The subscriptions of a store, as a file.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Subscriptions file, - for standard input.")]
PruneOption = Annotated[bool, typer.Option("--prune", help="Delete subscriptions that are missing in the file.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(subscriptions, name="subscriptions")


@subscriptions.command("export")
def export(
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Print the store's subscriptions as a file for `diff` and `apply`. The file holds no secret.

    Exit code 0: printed. 2: wrong usage, or the API call failed.
    """
    target = find_target(api, key, store, data_dir)
    stored = _asked(target, lambda client: client.read())
    sys.stdout.write(export_text(target.store, stored.subscriptions))


@subscriptions.command("diff")
def diff(
    file: FileArgument,
    prune: PruneOption = False,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Show the changes that `apply` would make with the same options. Header values are compared and never shown.

    Exit code 0: no changes. 1: changes. 2: the file has errors, or the API call failed.
    """
    target = find_target(api, key, store, data_dir)
    wanted = _read(file, target)
    answer = _asked(target, lambda client: client.apply(wanted.entries, prune=prune, dry_run=True), wanted)
    show_changes(Console(), answer)
    if answer.changes:
        raise typer.Exit(EXIT_DIFFERENT)


@subscriptions.command("apply")
def apply(  # noqa: PLR0913, PLR0917 - one parameter an option
    file: FileArgument,
    prune: PruneOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes and make none.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Skip the confirmation prompt for permanent losses.")
    ] = False,
    signing_keys: Annotated[
        Path | None,
        typer.Option(help="New file for new signing keys, readable by you alone; required without a terminal."),
    ] = None,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Make the store's subscriptions match the file, in one transaction. Idempotent.

    Exit code 0: done, or nothing to do. 2: the file has errors, the prompt was declined, or the API call failed.
    """
    target = find_target(api, key, store, data_dir)
    wanted = _read(file, target)
    may_ask = file != STANDARD_INPUT and sys.stdin.isatty()
    applying = _Applying(target, wanted, prune, Agreement(may_ask=may_ask, agreed=yes), signing_keys)
    for _ in range(MAX_PLANS):
        try:
            applying.once(dry_run=dry_run)
        except PlanChanged:
            complain("The store's subscriptions have just changed; nothing was done. Making a new plan.")
        else:
            return
    complain("The subscriptions changed each time; nothing was done.")
    raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class Agreement:
    """Consent to permanent losses: given in advance, or by a prompt if `may_ask`."""

    may_ask: bool
    agreed: bool


@dataclass(frozen=True)
class _Applying:
    """Application of one file to one store."""

    target: Target
    wanted: SubscriptionFile
    prune: bool
    agreement: Agreement
    signing_keys: Path | None

    def once(self, *, dry_run: bool) -> None:
        """Plan, confirm permanent losses, apply. Raises PlanChanged if the store changed after the plan."""
        console = Console()
        plan = self._apply(dry_run=True)
        if dry_run or not plan.changes:
            show_changes(console, plan)
            return
        self._agree(console, plan)
        with self._key_destination(console, plan) as store_keys:
            answer = self._apply(dry_run=False, expected_plan=plan.plan)
            show_changes(console, answer)
            store_keys([change for change in answer.changes if change.hmac_secret is not None])

    def _apply(self, *, dry_run: bool, expected_plan: str | None = None) -> SetAnswer:
        def asking(client: SubscriptionClient) -> Awaitable[SetAnswer]:
            return client.apply(self.wanted.entries, prune=self.prune, dry_run=dry_run, expected_plan=expected_plan)

        return _asked(self.target, asking, self.wanted, "" if dry_run else UNSURE)

    def _agree(self, console: Console, plan: SetAnswer) -> None:
        """Confirm permanent losses. Raises typer.Exit without consent."""
        losing = sum(bool(change.loses) for change in plan.changes)
        if not losing or self.agreement.agreed:
            return
        show_changes(console, plan)
        if not self.agreement.may_ask:
            complain(f"{losing} of the changes lose data permanently; --yes confirms. Nothing was done.")
            raise typer.Exit(EXIT_FAILED)
        if not typer.confirm(f"{losing} of the changes lose data permanently. Apply them?"):
            complain("Nothing was done.")
            raise typer.Exit(EXIT_FAILED)

    @contextlib.contextmanager
    def _key_destination(
        self, console: Console, plan: SetAnswer
    ) -> Iterator[Callable[[Sequence[PlannedChange]], None]]:
        """Prepare the destination of new signing keys before any is created. Keys never go to a pipeline's log."""
        switched_on = any(
            field.field == "hmacEnabled" and field.after for change in plan.changes for field in change.changes
        )
        if not switched_on:
            yield lambda changes: None
        elif self.signing_keys is not None:
            with _new_private_file(self.signing_keys) as write:
                yield lambda changes: write(_keys_text(changes))
            typer.echo(f"The new signing keys are in {self.signing_keys}.")
        elif console.is_terminal:
            yield lambda changes: show_keys(console, list(changes))
        else:
            complain(
                "This would create signing keys, which are shown once, and there is no terminal to show them: pass a "
                "file for them with --signing-keys. Nothing was done."
            )
            raise typer.Exit(EXIT_FAILED)


@contextlib.contextmanager
def _new_private_file(path: Path) -> Iterator[Callable[[str], None]]:
    """Create a private file and remove it if the block fails. An existing file ends the command."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError as error:
        complain(f"{path} cannot be created: {error.strerror}. Nothing was done.")
        raise typer.Exit(EXIT_FAILED) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield partial(_write, file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(file: TextIO, text: str) -> None:
    try:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        complain(f"The new signing keys could not be written: {error.strerror}. They are lost: rotate them.")
        raise typer.Exit(EXIT_FAILED) from None


def _keys_text(changes: Sequence[PlannedChange]) -> str:
    shown = {"webhook_subscription_id", "event_name", "name", "url", "hmac_secret"}
    keys = [change.model_dump(mode="json", by_alias=True, include=shown) for change in changes]
    return json.dumps(keys, indent=2, ensure_ascii=False) + "\n"


def _read(file: Path, target: Target) -> SubscriptionFile:
    """Read the file. Prints its errors and raises typer.Exit if there are any."""
    try:
        raw = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
        wanted = read_subscription_file(file, raw)
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}.")
        raise typer.Exit(EXIT_FAILED) from None
    except FileRefused as refused:
        for complaint in refused.complaints:
            complain(complaint)
        raise typer.Exit(EXIT_FAILED) from None
    if wanted.store not in (None, target.store):
        complain(
            wanted.complaint(
                "store", f"the file is for store {wanted.store}, not for {target.store}; change it with --store"
            )
        )
        raise typer.Exit(EXIT_FAILED)
    return wanted


def _asked(
    target: Target,
    asking: Callable[[SubscriptionClient], Awaitable[R]],
    wanted: SubscriptionFile | None = None,
    if_unsure: str = "",
) -> R:
    """Return the API's response. Prints errors, with their line in the file if known, and raises typer.Exit."""

    async def ask() -> R:
        async with SubscriptionClient(target) as client:
            return await asking(client)

    try:
        return asyncio.run(ask())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except PlanChanged:
        raise
    except EntriesRefused as refused:
        for path, message in written_paths(refused.problems):
            complain(f"{path}: {message}" if wanted is None else wanted.complaint(path, message))
    except NoAnswer as error:
        complain(f"{error} {if_unsure}".strip())
    except ApiTrouble as error:
        complain(str(error))
    raise typer.Exit(EXIT_FAILED)
