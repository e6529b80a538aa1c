"""`loyalty-webhooks expiry …`: import expiry rows from files and check the platform's database as their source."""

import asyncio
import hashlib
import time
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from commands.complaints import complain
from commands.configuration import EXIT_USAGE, read_settings
from commands.database import EXIT_FAILED, in_database
from domain.expiry.rows import Kind
from local.expiry_file import ExpiryFile, FileFormat, FileUnusableError, Importer
from storage.database import Database
from storage.expiry.file_import import ImportedElsewhereError, ImportKey, ImportState
from storage.expiry.rows import RELATIONS
from storage.expiry.source import Finding, PlatformRows, source_columns
from storage.operations.stores import store_exists
from storage.sealing import Sealer

EXIT_REJECTED = 1
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in a shell."""

PLAIN_PROGRESS_SECONDS = 2.0
"""Interval of progress lines without a terminal."""

FORMATS = {".csv": FileFormat.CSV, ".ndjson": FileFormat.NDJSON, ".jsonl": FileFormat.NDJSON}

expiry = typer.Typer(help="Expiry rows: point transfers, levels, coupons.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(expiry, name="expiry")


@expiry.command("import")
def import_rows(
    kind: Annotated[Kind, typer.Argument(help="Kind of the rows.")],
    file: Annotated[Path, typer.Argument(help="CSV with a header, or NDJSON; fields as in the API.")],
    store: Annotated[str, typer.Option(help="Code of the store the rows belong to.")],
    format_: Annotated[FileFormat | None, typer.Option("--format", help="Default: by the file extension.")] = None,
    delimiter: Annotated[str, typer.Option(help="Delimiter of a CSV file.")] = ",",
    rejects: Annotated[Path | None, typer.Option(help="File for rejected lines; default: FILE.rejects.csv.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Import the whole file again.")] = False,
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
    sealer = Sealer(read_settings().plain_encryption_keys)
    rejects = rejects or file.with_name(f"{file.name}.rejects.csv")
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            digest = hashlib.file_digest(stream, "sha256").digest()
            stream.seek(0)
            rows = ExpiryFile(stream, kind, format_, delimiter)

            async def work(database: Database) -> ImportState:
                async with database.transaction() as connection:
                    if not await store_exists(connection, store):
                        raise typer.BadParameter(f"there is no store {store}; see `loyalty-webhooks stores list`")
                importer = Importer(database, sealer, ImportKey(store, kind, digest), rows, rejects)
                return await _run(importer, size, again=again)

            state = in_database(work)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or file}: {error.strerror}") from error
    except FileUnusableError as error:
        raise typer.BadParameter(f"{file.name}: {error}") from error
    except ImportedElsewhereError:
        complain(f"Another process is importing {file} into {store}; this import has stopped.")
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        complain("Stopped. Run the same command to resume.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _report(state, rejects)
    if state.rejected:
        raise typer.Exit(EXIT_REJECTED)


async def _run(importer: Importer, size: int, *, again: bool) -> ImportState:
    state = await importer.begin(again=again)
    console = Console(stderr=True)
    if state.finished_at is not None:
        console.print("This file was imported before; --again imports it again.", highlight=False)
        return state
    if state.position_bytes:
        console.print(f"Resuming after line {state.position_line:,}.", highlight=False)
    with _ImportProgress(console, size, state) as progress:
        async with aclosing(importer.run(state)) as states:
            async for state in states:
                progress.update(state)
    return state


class _ImportProgress:
    """Progress bar on standard error, or a line every 2 s without a terminal."""

    def __init__(self, console: Console, size: int, begun: ImportState) -> None:
        self._console = console
        self._size = max(size, 1)
        self._begun = begun
        self._started = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("Importing"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]} rows, {task.fields[rate]}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._size, completed=begun.position_bytes, rows="0", rate="0")

    def __enter__(self) -> "_ImportProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, state: ImportState) -> None:
        """Show the state after a chunk."""
        now = time.monotonic()
        rate = (state.rows - self._begun.rows) / max(now - self._started, 0.001)
        self._bar.update(self._task, completed=state.position_bytes, rows=f"{state.rows:,}", rate=f"{rate:,.0f}")
        if not self._console.is_terminal and now - self._said >= PLAIN_PROGRESS_SECONDS:
            self._said = now
            percent = 100 * state.position_bytes // self._size
            self._console.print(f"{percent} %: {state.rows:,} rows, {rate:,.0f}/s", highlight=False)


def _report(state: ImportState, rejects: Path) -> None:
    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("written", "older or repeated", "rejected"):
        table.add_column(column, justify="right")
    table.add_row(f"{state.written:,}", f"{state.rows - state.written:,}", f"{state.rejected:,}")
    console.print(table)
    if state.rejected:
        console.print(Text(f"Rejected lines and reasons: {rejects}"), soft_wrap=True)


@expiry.command("check-source")
def check_source() -> None:
    """Check that every column of the views in the platform's database (EXPIRY_DATABASE_URL) exists and is readable."""
    settings = read_settings()
    url = settings.expiry_asyncpg_url
    if url is None:
        complain("EXPIRY_DATABASE_URL is not set: there is no platform database to check.")
        raise typer.Exit(EXIT_USAGE)
    try:
        findings = asyncio.run(_check(url, settings.expiry_statement_timeout_seconds))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        complain(f"The database of EXPIRY_DATABASE_URL cannot be read: {error or type(error).__name__}")
        raise typer.Exit(EXIT_FAILED) from None
    console = Console()
    if not findings:
        views = ", ".join(
            f"{relation.view} ({len(source_columns(relation))} columns)" for relation in RELATIONS.values()
        )
        console.print(Text(f"All columns are readable: {views}"), soft_wrap=True)
        return
    table = Table("view", "column", "problem", box=box.SIMPLE_HEAD)
    for finding in findings:
        table.add_row(finding.view, finding.column or "", Text(finding.problem))
    console.print(table)
    raise typer.Exit(EXIT_FAILED)


async def _check(url: str, statement_timeout_seconds: float) -> list[Finding]:
    rows = PlatformRows(url, statement_timeout_seconds=statement_timeout_seconds)
    try:
        return await rows.check()
    finally:
        await rows.close()
