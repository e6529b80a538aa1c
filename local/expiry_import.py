"""Import of an expiry file: chunk by chunk, each in one transaction together with the progress.

The rejects file is written and synced before the chunk's commit, which records the file's length. After an
interruption, the import truncates the rejects of an uncommitted chunk, so that no reject is lost or repeated.
"""

import csv
import io
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from local.expiry_file import ExpiryFile, FileUnusableError, Rejected
from storage.database import Database
from storage.expiry.file_import import ImportKey, ImportState, advance_import, begin_import, copy_records, finish_import
from storage.expiry.rows import newest, records_of
from storage.sealing import Sealer

CHUNK_ROWS = 5_000
"""Rows of a chunk. Some 300 ms of work, which is repeated after a crash."""

REJECTS_HEADER = ("line", "reason")


class Importer:
    """One import. The file `rejects` exists only if there are rejected lines."""

    def __init__(self, database: Database, sealer: Sealer, key: ImportKey, file: ExpiryFile, rejects: Path) -> None:
        self._database = database
        self._sealer = sealer
        self._key = key
        self._file = file
        self._rejects = rejects

    async def begin(self, *, again: bool) -> ImportState:
        """Return the state to resume from. `again` restarts a file that was begun or finished before."""
        async with self._database.transaction() as connection:
            state = await begin_import(connection, self._key, again=again)
        if state.finished_at is None:
            _cut(self._rejects, state.rejects_bytes)
            if state.position_bytes:
                self._file.go_to(state.position_bytes, state.position_line)
        return state

    async def run(self, state: ImportState) -> AsyncGenerator[ImportState, None]:
        """Import from `state` to the end. Yield the state after each chunk. Raises ImportedElsewhereError."""
        while True:
            chunk = self._file.chunk(CHUNK_ROWS)
            if not chunk.rows and not chunk.rejected:
                break
            after = replace(
                state,
                position_bytes=chunk.position,
                position_line=chunk.line,
                rows=state.rows + len(chunk.rows),
                rejected=state.rejected + len(chunk.rejected),
                rejects_bytes=_append(self._rejects, state.rejects_bytes, chunk.rejected),
            )
            records = records_of(self._key.kind, newest(chunk.rows), self._sealer)
            async with self._database.transaction() as connection:
                written = await copy_records(connection, self._key.store_code, self._key.kind, records)
                after = replace(after, written=state.written + written)
                await advance_import(connection, self._key, state, after)
            state = after
            yield state
        async with self._database.transaction() as connection:
            await finish_import(connection, self._key, state)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Translate OSError to FileUnusableError with the file's path, so that it is not taken for a database error."""
    try:
        yield
    except OSError as error:
        raise FileUnusableError(f"{path} cannot be written: {error.strerror}") from error


def _cut(path: Path, length: int) -> None:
    """Truncate the file to its first `length` bytes. Remove it if none remain."""
    with _writing(path):
        if length == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            os.truncate(path, min(length, path.stat().st_size))


def _append(path: Path, before: int, rejected: Sequence[Rejected]) -> int:
    """Append rejects to the file, sync it and return its new length. `before` is the recorded length."""
    if not rejected:
        return before
    text = io.StringIO()
    writer = csv.writer(text)
    if before == 0:
        writer.writerow(REJECTS_HEADER)
    writer.writerows((reject.line, reject.reason) for reject in rejected)
    with _writing(path), path.open("ab") as file:
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
