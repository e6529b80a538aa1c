"""`loyalty-webhooks subscriptions export|diff|apply`: the subscriptions of a store as a file."""

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
from local.data_directory import DEFAULT_DATA_DIRECTORY
from local.private_file import PRIVATE_FILE

R = TypeVar("R")

EXIT_DIFFERENT = 1
EXIT_FAILED = 2  # wrong usage too, as everywhere on the command line
LOOKS_MOST = 3  # times a plan is made anew because others changed the store meanwhile

UNSURE = (
    "Whether it was done is not known: `loyalty-webhooks subscriptions diff` tells. Signing keys it made are lost, so "
    "rotate those of subscriptions that it switched signing on for."
)

subscriptions = typer.Typer(help="The subscriptions of a store, as a file.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file, - for standard input.")]
PruneOption = Annotated[bool, typer.Option("--prune", help="Delete what the store has and the file has not.")]


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
    """Print the store's subscriptions as a file for `diff` and `apply`. It holds no secret.

    Exit code 0: printed. 2: wrong usage, or the API did not give them.
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
    """Show what `apply` with the same options would change. Values of headers are compared too, and never shown.

    Exit code 0: nothing. 1: something. 2: the file is wrong, or the API did not answer.
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before something is lost for good.")] = False,
    signing_keys: Annotated[
        Path | None,
        typer.Option(help="A new file for new signing keys, readable by you alone; needed where there is no terminal."),
    ] = None,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Bring the store's subscriptions to the file: in one transaction, or not at all. The same again does nothing.

    Exit code 0: done, or nothing to do. 2: the file is wrong, not agreed to, or the API did not do it.
    """
    target = find_target(api, key, store, data_dir)
    wanted = _read(file, target)
    may_ask = file != STANDARD_INPUT and sys.stdin.isatty()
    applying = _Applying(target, wanted, prune, Agreement(may_ask=may_ask, agreed=yes), signing_keys)
    for _ in range(LOOKS_MOST):
        try:
            applying.once(dry_run=dry_run)
        except PlanChanged:
            complain("Somebody changed the store's subscriptions just now; nothing was done. Looking again.")
        else:
            return
    complain("They changed each time; nothing was done.")
    raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class Agreement:
    """Whether what is lost for good was agreed to, or somebody can be asked."""

    may_ask: bool
    agreed: bool


@dataclass(frozen=True)
class _Applying:
    """One file on its way into one store."""

    target: Target
    wanted: SubscriptionFile
    prune: bool
    agreement: Agreement
    signing_keys: Path | None

    def once(self, *, dry_run: bool) -> None:
        """Look, show, ask where something is lost, do. Raises PlanChanged when the store changed after the look."""
        console = Console()
        plan = self._apply(dry_run=True)
        if dry_run or not plan.changes:
            show_changes(console, plan)
            return
        self._agree(console, plan)
        with self._place_for_keys(console, plan) as keep:
            answer = self._apply(dry_run=False, expected_plan=plan.plan)
            show_changes(console, answer)
            keep([change for change in answer.changes if change.hmac_secret is not None])

    def _apply(self, *, dry_run: bool, expected_plan: str | None = None) -> SetAnswer:
        def asking(client: SubscriptionClient) -> Awaitable[SetAnswer]:
            return client.apply(self.wanted.entries, prune=self.prune, dry_run=dry_run, expected_plan=expected_plan)

        return _asked(self.target, asking, self.wanted, "" if dry_run else UNSURE)

    def _agree(self, console: Console, plan: SetAnswer) -> None:
        """Ends the command when something would be lost for good and nobody agrees."""
        losing = sum(bool(change.loses) for change in plan.changes)
        if not losing or self.agreement.agreed:
            return
        show_changes(console, plan)
        if not self.agreement.may_ask:
            complain(f"{losing} of the changes lose something for good; --yes agrees to that. Nothing was done.")
            raise typer.Exit(EXIT_FAILED)
        if not typer.confirm(f"{losing} of the changes lose something for good. Apply them?"):
            complain("Nothing was done.")
            raise typer.Exit(EXIT_FAILED)

    @contextlib.contextmanager
    def _place_for_keys(self, console: Console, plan: SetAnswer) -> Iterator[Callable[[Sequence[PlannedChange]], None]]:
        """Where new signing keys go, made sure of before there are any; a log of a pipeline is no place for them."""
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
                "New signing keys would be made, which are shown once, and there is no terminal to show them at: name "
                "a file for them with --signing-keys. Nothing was done."
            )
            raise typer.Exit(EXIT_FAILED)


@contextlib.contextmanager
def _new_private_file(path: Path) -> Iterator[Callable[[str], None]]:
    """A file that was not there before, removed again when the block fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError as error:
        complain(f"{path} cannot be made: {error.strerror}. Nothing was done.")
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
    """The file; what is wrong with it is said and ends the command."""
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
                "store", f"the file is for store {wanted.store}, not for {target.store}; --store names another"
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
    """The API's answer; what is wrong is said, with its line where it is in the file, and ends the command."""

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
