"""`loyalty-webhooks new-encryption-key|rotate-encryption-key`: keys that encrypt the secrets in the database."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

import typer
from cryptography.fernet import Fernet

from commands.configuration import Installation, with_installation
from commands.database.connection import in_database, operator
from commands.terminal import EXIT_FAILED, EXIT_INTERRUPTED, BarOrLines, complain, counted, failed, say, show_records
from storage.access.audit import record
from storage.database import Database
from storage.operations.reencryption import Report, Resealing
from storage.sealing import Sealer

FINGERPRINT_CHARACTERS = 12
"""Length of the key's digest in the audit log. Identifies a key of 256 random bits and reveals nothing about it."""


def new_encryption_key() -> None:
    """Print a new key for ENCRYPTION_KEYS, which encrypts the secrets in the database. Keep a copy of it."""
    typer.echo(Fernet.generate_key().decode())


@with_installation
def rotate_encryption_key(
    installation: Installation,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the values and change nothing.")] = False,
) -> None:
    """Re-encrypt all secrets in the database with the first key of ENCRYPTION_KEYS, beside a running stack.

    May be stopped at any moment and run again. docs/keys.md describes the whole procedure.

    Exit code 0: the first key decrypts everything, so the others may be removed. 1: some values still need another key.
    """
    keys = installation.settings.plain_encryption_keys
    try:
        report = in_database(installation, lambda database: _work(database, keys, dry_run=dry_run))
    except KeyboardInterrupt:
        raise failed("Interrupted. Re-encrypted values stay; run it again to continue.", EXIT_INTERRUPTED) from None
    names = ("column", "firstKey", "anotherKey", "toReencrypt" if dry_run else "reencrypted", "undecryptable")
    rows = (
        (str(one.column), one.current, one.other, one.other if dry_run else one.resealed, len(one.unopenable))
        for one in report.counts
    )
    show_records([dict(zip(names, row, strict=True)) for row in rows])
    if not _verdict(report, len(keys), dry_run=dry_run):
        raise typer.Exit(EXIT_FAILED)


async def _work(database: Database, keys: Sequence[str], *, dry_run: bool) -> Report:
    with BarOrLines() as progress:
        resealing = Resealing(
            database,
            Sealer(keys),
            on_pass=lambda number, values: progress.begin("Encrypting" if number == 1 else "Checking", values),
            on_step=progress.step,
        )
        if dry_run:
            return await resealing.count()
        await _record(database, keys[0], {"moment": "begin"})
        report = await resealing.run()
    counts = {str(count.column): count.resealed for count in report.counts if count.resealed}
    await _record(database, keys[0], {"moment": "end", "resealed": counts, "complete": report.first_key_opens_all})
    return report


async def _record(database: Database, first_key: str, changes: dict[str, object]) -> None:
    await database.run(
        record,
        actor=operator(),
        action="rotate_encryption_key",
        object_type="encryption_key",
        object_id=sha256(first_key.encode()).hexdigest()[:FINGERPRINT_CHARACTERS],
        changes=changes,
    )


def _verdict(report: Report, keys: int, *, dry_run: bool) -> bool:
    """Print and return whether the other keys may be removed."""
    for count in report.counts:
        if count.unopenable:
            complain(
                f"{count.column}: no key of ENCRYPTION_KEYS decrypts {counted(len(count.unopenable), 'value')}: "
                f"{count.examples}. Append the key that encrypted them to ENCRYPTION_KEYS and run this again. Attempts "
                "that need them fail as `internal` until then."
            )
    if report.total("late"):
        complain(
            f"{counted(report.total('late'), 'value')} arrived encrypted with another key during the run: a process "
            "still has another first key. Restart every API and worker with this ENCRYPTION_KEYS, then run this again."
        )
    if report.total("left"):
        complain(f"{counted(report.total('left'), 'value')} stayed locked or kept changing; run this again.")
    if report.first_key_opens_all:
        others = "Once every API and worker has this first key, the other keys of ENCRYPTION_KEYS may be removed."
        say("The first key encrypts everything. " + (others if keys > 1 else "There is no other key."))
    elif dry_run and report.total("other"):
        say(f"Encrypted with a key other than the first: {counted(report.total('other'), 'value')}. Keep every key.")
    else:
        say("Keep every key until this command reports that the others may be removed.")
    return report.first_key_opens_all
