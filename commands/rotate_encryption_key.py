"""`loyalty-webhooks rotate-encryption-key`: seal what is secret in the database with the first of the keys."""

import time
from hashlib import sha256
from typing import Annotated

import typer
from pydantic import SecretStr
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from commands.complaints import complain
from commands.configuration import read_settings
from commands.database import EXIT_FAILED, in_database, operator
from storage.access.audit import record
from storage.database import Database
from storage.operations.reencryption import Report, Resealing
from storage.sealing import Sealer

ACTION = "rotate_encryption_key"
OBJECT = "encryption_key"
FINGERPRINT_CHARACTERS = 12  # of a key with 256 random bits: names it and tells nothing of it
PLAIN_PROGRESS_SECONDS = 2.0  # between two lines where there is no terminal
EXIT_INTERRUPTED = 130  # as a shell has it


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("rotate-encryption-key")(rotate_encryption_key)


def rotate_encryption_key(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done, and do nothing.")] = False,
) -> None:
    """Seal everything secret in the database with the first key of ENCRYPTION_KEYS, beside a running stack.

    May be stopped at any moment and run again. docs/keys.md has the whole procedure.

    Exit code 0: the first key opens everything, so the others may go. 1: something still needs another key.
    """
    keys = read_settings().encryption_keys
    try:
        report = in_database(lambda database: _work(database, keys, dry_run=dry_run))
    except KeyboardInterrupt:
        complain("Interrupted. What was sealed anew stays so; run it again to go on.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show(report, dry_run=dry_run)
    if not _verdict(report, len(keys), dry_run=dry_run):
        raise typer.Exit(EXIT_FAILED)


async def _work(database: Database, keys: tuple[SecretStr, ...], *, dry_run: bool) -> Report:
    sealer = Sealer([key.get_secret_value() for key in keys])
    with _RotationProgress() as progress:
        resealing = Resealing(database, sealer, on_pass=progress.begin, on_step=progress.advance)
        if dry_run:
            return await resealing.count()
        await _record(database, keys[0], "begin", {})
        report = await resealing.run()
    counts = {str(count.column): count.resealed for count in report.counts if count.resealed}
    await _record(database, keys[0], "end", {"resealed": counts, "complete": report.first_key_opens_all})
    return report


async def _record(database: Database, first: SecretStr, moment: str, changes: dict[str, object]) -> None:
    fingerprint = sha256(first.get_secret_value().encode()).hexdigest()[:FINGERPRINT_CHARACTERS]
    async with database.transaction() as connection:
        await record(
            connection,
            actor=operator(),
            action=ACTION,
            object_type=OBJECT,
            object_id=fingerprint,
            changes={"moment": moment, **changes},
        )


class _RotationProgress:
    """A bar on standard error, or a line now and then where that is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("")
        self._title = ""
        self._done = self._total = 0
        self._last_line = time.monotonic()

    def __enter__(self) -> "_RotationProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, number: int, values: int) -> None:
        """A pass over so many values begins; those after the first only look whether anything is left."""
        self._title = "Sealing" if number == 1 else "Checking"
        self._done, self._total = 0, values
        self._bar.reset(self._task, description=self._title, total=values)

    def advance(self, values: int) -> None:
        """So many more were looked at."""
        self._done += values
        self._bar.advance(self._task, values)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= PLAIN_PROGRESS_SECONDS:
            self._last_line = now
            self._console.print(f"{self._title}: {self._done:,} of {self._total:,}", highlight=False)


def _show(report: Report, *, dry_run: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("sealed values")
    for column in ("with the first key", "with another", "to seal anew" if dry_run else "sealed anew", "no key opens"):
        table.add_column(column, justify="right")
    for count in report.counts:
        resealed = count.other if dry_run else count.resealed
        figures = (count.current, count.other, resealed, len(count.unopenable))
        table.add_row(str(count.column), *(f"{figure:,}" for figure in figures))
    Console().print(table)


def _verdict(report: Report, keys: int, *, dry_run: bool) -> bool:
    """Say whether the other keys may be removed."""
    for count in report.counts:
        if count.unopenable:
            complain(
                f"{count.column}: no key of ENCRYPTION_KEYS opens {_values(len(count.unopenable))}: {count.examples}. "
                "Add the key they were sealed with at the end of ENCRYPTION_KEYS and run this again. Attempts that "
                "need them fail as `internal` until then."
            )
    if report.total("late"):
        complain(
            f"{_values(report.total('late'))} came sealed with another key while this ran: some process still has "
            "another first key. Restart every API and worker with this ENCRYPTION_KEYS, then run this again."
        )
    if report.total("left"):
        complain(f"{_values(report.total('left'))} could not be had, locked or changed each time; run this again.")
    if report.first_key_opens_all:
        others = "Once every API and worker has this first key, the other keys of ENCRYPTION_KEYS may be removed."
        typer.echo("Everything is sealed with the first key. " + (others if keys > 1 else "There is no other key."))
    elif dry_run and report.total("other"):
        typer.echo(f"Sealed with another key than the first: {_values(report.total('other'))}. Keep every key.")
    else:
        typer.echo("Keep every key until this says that the others may be removed.")
    return report.first_key_opens_all


def _values(number: int) -> str:
    return f"{number:,} value{'' if number == 1 else 's'}"
