"""`loyalty-webhooks subscriptions export|diff|apply`: manage the subscriptions of a store as a file."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from api.subscription_sets.models import PlannedChange, SetAnswer, StoredSet
from commands.subscriptions.file import FileRefused, SubscriptionFile, export_text, read_subscription_file
from commands.subscriptions.plan import show_changes, show_keys
from commands.target import REASONS, Target, with_target
from commands.terminal import EXIT_USAGE, STANDARD_INPUT, complain, counted, failed, json_wanted, say, show
from local.data_directory import PRIVATE_FILE
from local.event_sender import answer_of

M = TypeVar("M", bound=BaseModel)

EXIT_DIFFERENT = 1

MAX_PLANS = 3
"""Maximum number of plans, if other clients keep changing the store."""

APPLY_SECONDS = 180.0
"""Timeout of a request. The API resolves the hosts of up to 500 URLs, at most a second each, four at a time."""

UNSURE = (
    "The outcome is unknown: `loyalty-webhooks subscriptions diff` shows it. Signing keys it created are lost, so "
    "rotate the keys of webhooks for which it enabled signing."
)

subscriptions = typer.Typer(help="The webhooks of a store, as a file.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Webhooks file, - for standard input.")]
PruneOption = Annotated[bool, typer.Option("--prune", help="Delete webhooks that are missing in the file.")]


class PlanChanged(Exception):  # noqa: N818 - reads as what happened
    """Another client changed webhooks after the plan was made; nothing was done."""


@subscriptions.command("export")
@with_target
def export(target: Target) -> None:
    """Print the store's webhooks as a file for `diff` and `apply`. The file holds no secret.

    Exit code 0: printed. 2: wrong usage, or the API call failed.
    """
    stored = _asked(StoredSet, target, "GET")
    show(export_text(target.store, stored.subscriptions).rstrip("\n"), stored.model_dump(mode="json", by_alias=True))


@subscriptions.command("diff")
@with_target
def diff(target: Target, file: FileArgument, prune: PruneOption = False) -> None:
    """Show the changes that `apply` would make with the same options. Header values are compared and never shown.

    Exit code 0: no changes. 1: changes. 2: the file has errors, or the API call failed.
    """
    answer = _applied(target, _read(file, target), prune=prune, dry_run=True)
    show_changes(Console(), answer)
    if answer.changes:
        raise typer.Exit(EXIT_DIFFERENT)


@subscriptions.command("apply")
@with_target
def apply(
    target: Target,
    file: FileArgument,
    prune: PruneOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes and make none.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Skip the confirmation prompt for permanent losses.")
    ] = False,
    signing_keys: Annotated[
        Path | None,
        typer.Option(help="New file for new signing keys, readable by you alone; needed if no terminal can show them."),
    ] = None,
) -> None:
    """Make the store's webhooks match the file, in one transaction. Webhooks that are missing in the file stay, unless
    --prune deletes them. Applying the same file again changes nothing.

    Exit code 0: done, or nothing to do. 2: the file has errors, the prompt was declined, or the API call failed.
    """
    wanted = _read(file, target)
    console = Console(stderr=json_wanted())
    for _ in range(MAX_PLANS):
        try:
            plan = _applied(target, wanted, prune=prune, dry_run=True)
            if dry_run or not plan.changes:
                show_changes(console, plan)
                return
            if not yes:
                _agree(console, plan, may_ask=file != STANDARD_INPUT and sys.stdin.isatty())
            with _key_destination(console, plan, signing_keys) as store_keys:
                answer = _applied(target, wanted, prune=prune, dry_run=False, expected_plan=plan.plan)
                store_keys([change for change in answer.changes if change.hmac_secret is not None])
        except PlanChanged:
            complain("The store's webhooks have just changed; nothing was done. Making a new plan.")
        else:
            show_changes(console, answer)  # after the keys, so that a closed standard output cannot lose them
            return
    raise failed("Other clients kept changing the webhooks; nothing was done. Run it again.", EXIT_USAGE)


def _agree(console: Console, plan: SetAnswer, *, may_ask: bool) -> None:
    """Ask for consent to permanent losses. Raises typer.Exit without it."""
    losing = sum(bool(change.loses) for change in plan.changes)
    if not losing:
        return
    show_changes(console, plan, as_result=False)
    text = f"{counted(losing, 'change loses', 'changes lose')} data permanently"
    if not may_ask:
        raise failed(f"{text}; --yes confirms. Nothing was done.", EXIT_USAGE)
    if not typer.confirm(f"{text}. Apply all changes?", err=json_wanted()):
        raise failed("Nothing was done.", EXIT_USAGE)


@contextlib.contextmanager
def _key_destination(
    console: Console, plan: SetAnswer, file: Path | None
) -> Iterator[Callable[[list[PlannedChange]], None]]:
    """Prepare the destination of new signing keys before any is created. Keys never go to a pipeline's log."""
    if not any(field.field == "hmacEnabled" and field.after for change in plan.changes for field in change.changes):
        yield lambda changes: None
    elif file is not None:
        with _new_key_file(file) as write:
            yield write
        say(f"The new signing keys are in {file}.")
    elif console.is_terminal:
        yield lambda changes: show_keys(console, changes)
    else:
        raise failed(
            "This would create signing keys, and there is no terminal to show them: pass a file for them with "
            "--signing-keys. Later, only the panel shows them. Nothing was done.",
            EXIT_USAGE,
        )


@contextlib.contextmanager
def _new_key_file(path: Path) -> Iterator[Callable[[Sequence[PlannedChange]], None]]:
    """Create a private file and remove it if the block fails. An existing file ends the command."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError as error:
        raise failed(f"{path} cannot be created: {error.strerror}. Nothing was done.", EXIT_USAGE) from None

    def write(changes: Sequence[PlannedChange]) -> None:
        shown = {"webhook_subscription_id", "event_name", "name", "url", "hmac_secret"}
        keys = [change.model_dump(mode="json", by_alias=True, include=shown) for change in changes]
        file.write(json.dumps(keys, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())

    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield write
    except OSError as error:
        path.unlink(missing_ok=True)
        lost = f"The new signing keys could not be written: {error.strerror}. They are lost: rotate them."
        raise failed(lost, EXIT_USAGE) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read(file: Path, target: Target) -> SubscriptionFile:
    """Read the file. Prints its errors and raises typer.Exit if there are any."""
    try:
        raw = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
        wanted = read_subscription_file(file, raw)
    except OSError as error:
        raise failed(f"{file} cannot be read: {error.strerror}.", EXIT_USAGE) from None
    except FileRefused as refused:
        for complaint in refused.complaints:
            complain(complaint)
        raise typer.Exit(EXIT_USAGE) from None
    if wanted.store not in (None, target.store):
        other = f"the file is for store {wanted.store}, not for {target.store}; change it with --store"
        raise failed(wanted.complaint("store", other), EXIT_USAGE)
    return wanted


def _applied(
    target: Target, wanted: SubscriptionFile, *, prune: bool, dry_run: bool, expected_plan: str | None = None
) -> SetAnswer:
    """Make the store's webhooks match the file. Raises PlanChanged, and typer.Exit as `_asked`."""
    asked = {"subscriptions": wanted.entries, "prune": prune, "dryRun": dry_run, "expectedPlan": expected_plan}
    if_unsure = "" if dry_run else UNSURE
    return _asked(SetAnswer, target, "POST", {"subscriptionSet": asked}, wanted=wanted, if_unsure=if_unsure)


def _asked(
    model: type[M],
    target: Target,
    method: str,
    body: Any = None,
    *,
    wanted: SubscriptionFile | None = None,
    if_unsure: str = "",
) -> M:
    """Return the API's answer. Prints errors, with their line in the file if known, and raises typer.Exit."""
    path = "webhook/subscription-set"
    response = target.request(method, path, json=body, timeout=APPLY_SECONDS, if_silent=if_unsure)
    if response.status_code == httpx.codes.OK:
        try:
            return model.model_validate_json(response.content)
        except ValidationError:
            strange = f"{target.api} sent an unexpected response: is it another version?"
            raise failed(f"{strange} {if_unsure}".strip(), EXIT_USAGE) from None
    facts = answer_of(response)
    status = response.status_code
    if status == httpx.codes.BAD_REQUEST and facts.get("errors"):
        for problem in facts["errors"]:
            _complain_of(problem, wanted)
        raise typer.Exit(EXIT_USAGE)
    if status == httpx.codes.CONFLICT:
        raise PlanChanged
    reasons = REASONS | {
        403: "this key lacks a right: subscription:read to export, subscription:write to compare and to apply",
        404: f"there is no store {target.store!r}, this key has no access to it (--store), or the API is too old",
    }
    raise target.unusable(status, reasons.get(status) or facts.get("message"))


def _complain_of(problem: dict[str, Any], wanted: SubscriptionFile | None) -> None:
    """Print an error of the API, reworded where the API names a field that the file does not have."""
    path, message = str(problem.get("path", "")), str(problem.get("message", ""))
    if problem.get("code") == "masked_value":
        message = "there is no stored value to keep; provide one with fromEnv or fromFile"
    elif problem.get("code") == "destination_changed":
        message = "the stored value is not kept for another scheme, host or port; provide it with fromEnv or fromFile"
    complain(f"{path}: {message}" if wanted is None else wanted.complaint(path, message))
