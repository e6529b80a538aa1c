"""Log files of the components: one each, of limited size, with one previous file."""

import contextlib
import os
import shutil
from collections import deque
from pathlib import Path

from local.private_file import PRIVATE_FILE

LOG_LIMIT_BYTES = 64 * 1024 * 1024
TAIL_LINES = 20
TAIL_BYTES = 16 * 1024


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def begin_log(path: Path) -> None:
    """Start a new log. The existing file becomes the previous one."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size:
            path.replace(_previous(path))


def open_log(path: Path) -> int:
    """Open the log for appending and return the file descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)


def bound_log(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
    """Truncate a log over the limit, after copying it to the previous file.

    Truncates in place because the writer holds the file open. Lines written during the copy are lost.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > limit_bytes:
            shutil.copyfile(path, _previous(path))
            _previous(path).chmod(PRIVATE_FILE)
            os.truncate(path, 0)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log; empty if the file is missing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(deque(text.splitlines(), maxlen=lines))
