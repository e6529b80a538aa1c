"""`loyalty-webhooks expiry …`: import expiry rows from files and check the platform's database as their source."""

import asyncio
import hashlib
import time
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn

from commands.configuration import Installation, with_installation
from commands.database.connection import in_database
from commands.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, BarOrLines, counted, failed, show, show_records
from domain.expiry.rows import Kind
from local.expiry_file import ExpiryFile, FileFormat, FileUnusableError, Importer
from storage.access.stores import store_exists
from storage.database import Database
from storage.expiry.file_import import ImportedElsewhereError, ImportKey, ImportState
from storage.expiry.rows import RELATIONS
from storage.expiry.source import Finding, PlatformRows, SourceAwayError, source_columns
from storage.sealing import Sealer

FORMATS = {".csv": FileFormat.CSV, ".ndjson": FileFormat.NDJSON, ".jsonl": FileFormat.NDJSON}

expiry = typer.Typer(help="Expiry rows: point transfers, levels, coupons.", no_args_is_help=True)


@expiry.command("import")
@with_installation
def import_rows(  # noqa: PLR0913, PLR0917 - one parameter an option
    installation: Installation,
    kind: Annotated[Kind, typer.Argument(help="Kind of the rows.")],
    file: Annotated[Path, typer.Argument(help="CSV with a header, or NDJSON; fields as in the API.")],
    store: Annotated[str, typer.Option(help="Code of the store the rows belong to.")],
    format_: Annotated[FileFormat | None, typer.Option("--format", help="Format; default: by the extension.")] = None,
    delimiter: Annotated[str, typer.Option(help="Delimiter of a CSV file.")] = ",",
    rejects: Annotated[Path | None, typer.Option(help="File for rejected lines; default: FILE.rejects.csv.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Import a file again that was imported before.")] = False,
) -> None:
    """Import expiry rows. An interrupted import resumes with the same command.

    Rows older than the stored ones change nothing. Exit code 0: every line was imported. 1: some were rejected, or the
    database connection was lost. 2: wrong usage.
    """
    format_ = format_ or FORMATS.get(file.suffix.lower())
    if format_ is None:
        raise typer.BadParameter(f"{file.name} ends neither in .csv nor in .ndjson; pass --format csv or ndjson")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise typer.BadParameter("a delimiter is one character other than a quote or line break")
    sealer = Sealer(installation.settings.plain_encryption_keys)
    rejects = rejects or file.with_name(f"{file.name}.rejects.csv")
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            digest = hashlib.file_digest(stream, "sha256").digest()
            stream.seek(0)
            rows = ExpiryFile(stream, kind, format_, delimiter)

            async def work(database: Database) -> ImportState:
                if not await database.run(store_exists, store):
                    raise typer.BadParameter(f"there is no store {store}; see `loyalty-webhooks stores list`")
                importer = Importer(database, sealer, ImportKey(store, kind, digest), rows, rejects)
                return await _run(importer, size, again=again)

            state = in_database(installation, work)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or file}: {error.strerror}") from error
    except FileUnusableError as error:
        raise typer.BadParameter(f"{file.name}: {error}") from error
    except ImportedElsewhereError:
        raise failed(f"Another process is importing {file} into {store}; this import has stopped.") from None
    except KeyboardInterrupt:
        raise failed("Stopped. Run the same command to resume.", EXIT_INTERRUPTED) from None
    known = state.rows - state.written
    show_records([{"written": state.written, "olderOrRepeated": known, "rejected": state.rejected}])
    if state.rejected:
        raise failed(f"Rejected lines and reasons: {rejects}")


async def _run(importer: Importer, size: int, *, again: bool) -> ImportState:
    state = await importer.begin(again=again)
    console = Console(stderr=True)
    if state.finished_at is not None:
        console.print("This file was imported before; --again imports it again.", highlight=False)
        return state
    if state.position_bytes:
        console.print(f"Resuming after line {state.position_line:,}.", highlight=False)
    started, rows_before, size = time.monotonic(), state.rows, max(size, 1)
    columns = (TextColumn("Importing"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[done]}"))
    with BarOrLines(*columns, total=size, completed=state.position_bytes, done="") as progress:
        async with aclosing(importer.run(state)) as states:
            async for state in states:
                rate = (state.rows - rows_before) / max(time.monotonic() - started, 0.001)
                done = f"{counted(state.rows, 'row')}, {rate:,.0f}/s"
                percent = 100 * state.position_bytes // size
                progress.show(f"{percent} %: {done}", completed=state.position_bytes, done=done)
    return state


@expiry.command("check-source")
@with_installation
def check_source(installation: Installation) -> None:
    """Check that every column of the views in the platform's database (EXPIRY_DATABASE_URL) exists and is readable."""
    settings = installation.settings
    url = settings.expiry_asyncpg_url
    if url is None:
        raise failed("EXPIRY_DATABASE_URL is not set: there is no platform database to check.", EXIT_USAGE)

    async def check() -> list[Finding]:
        rows = PlatformRows(url, statement_timeout_seconds=settings.expiry_statement_timeout_seconds)
        try:
            return await rows.check()
        finally:
            await rows.close()

    try:
        findings = asyncio.run(check())
    except SourceAwayError as error:
        raise failed(f"Outage of the {error}") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise failed(f"The database of EXPIRY_DATABASE_URL cannot be read: {error or type(error).__name__}") from None
    if findings:
        show_records([asdict(finding) for finding in findings])
        raise typer.Exit(EXIT_FAILED)
    views = (f"{relation.view} ({len(source_columns(relation))} columns)" for relation in RELATIONS.values())
    show(f"All columns are readable: {', '.join(views)}", [])
