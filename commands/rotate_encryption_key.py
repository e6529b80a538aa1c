"""`loyalty-webhooks rotate-encryption-key`: re-encrypt the secrets in the database with the first key."""

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
FINGERPRINT_CHARACTERS = 12
"""Length of the key's digest in the audit log. Identifies a key of 256 random bits and reveals nothing about it."""

PLAIN_PROGRESS_SECONDS = 2.0
"""Interval of progress lines without a terminal."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("rotate-encryption-key")(rotate_encryption_key)


def rotate_encryption_key(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the values and change nothing.")] = False,
) -> None:
    """Re-encrypt all secrets in the database with the first key of ENCRYPTION_KEYS, beside a running stack.

    May be stopped at any moment and run again. docs/keys.md describes the whole procedure.

    Exit code 0: the first key decrypts everything, so the others may be removed. 1: some values still need another key.
    """
    keys = read_settings().encryption_keys
    try:
        report = in_database(lambda database: _work(database, keys, dry_run=dry_run))
    except KeyboardInterrupt:
        complain("Interrupted. Re-encrypted values stay; run it again to continue.")
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
    """Progress bar on standard error, or a line every 2 s without a terminal."""

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
        """Begin a pass over this many values. Passes after the first look for remaining values only."""
        self._title = "Encrypting" if number == 1 else "Checking"
        self._done, self._total = 0, values
        self._bar.reset(self._task, description=self._title, total=values)

    def advance(self, values: int) -> None:
        """Add to the number of checked values."""
        self._done += values
        self._bar.advance(self._task, values)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= PLAIN_PROGRESS_SECONDS:
            self._last_line = now
            self._console.print(f"{self._title}: {self._done:,} of {self._total:,}", highlight=False)


def _show(report: Report, *, dry_run: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("encrypted values")
    for column in ("first key", "another key", "to re-encrypt" if dry_run else "re-encrypted", "undecryptable"):
        table.add_column(column, justify="right")
    for count in report.counts:
        resealed = count.other if dry_run else count.resealed
        figures = (count.current, count.other, resealed, len(count.unopenable))
        table.add_row(str(count.column), *(f"{figure:,}" for figure in figures))
    Console().print(table)


def _verdict(report: Report, keys: int, *, dry_run: bool) -> bool:
    """Print and return whether the other keys may be removed."""
    for count in report.counts:
        if count.unopenable:
            complain(
                f"{count.column}: no key of ENCRYPTION_KEYS decrypts {_values(len(count.unopenable))}: "
                f"{count.examples}. Append the key that encrypted them to ENCRYPTION_KEYS and run this again. Attempts "
                "that need them fail as `internal` until then."
            )
    if report.total("late"):
        complain(
            f"{_values(report.total('late'))} arrived encrypted with another key during the run: a process still has "
            "another first key. Restart every API and worker with this ENCRYPTION_KEYS, then run this again."
        )
    if report.total("left"):
        complain(f"{_values(report.total('left'))} stayed locked or kept changing; run this again.")
    if report.first_key_opens_all:
        others = "Once every API and worker has this first key, the other keys of ENCRYPTION_KEYS may be removed."
        typer.echo("The first key encrypts everything. " + (others if keys > 1 else "There is no other key."))
    elif dry_run and report.total("other"):
        typer.echo(f"Encrypted with a key other than the first: {_values(report.total('other'))}. Keep every key.")
    else:
        typer.echo("Keep every key until this command reports that the others may be removed.")
    return report.first_key_opens_all


def _values(number: int) -> str:
    return f"{number:,} value{'' if number == 1 else 's'}"
