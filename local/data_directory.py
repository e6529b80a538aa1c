"""Data directory of a stack: its paths, its lock, its private files and its logs."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

DEFAULT_DATA_DIRECTORY = Path(".loyalty-webhooks")
PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
LOCK_PATIENCE_SECONDS = 2.0
"""Time to wait for the lock. `status` and `down` take it for an instant to see if it is held."""

LOG_LIMIT_BYTES = 64 * 1024 * 1024
TAIL_LINES = 20
TAIL_BYTES = 16 * 1024


class StackError(Exception):
    """The stack cannot start or continue. The message names problem and remedy and holds no secret."""


class DataDirectory:
    """Paths inside the data directory. `root` is absolute and without symbolic links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stack = root / "stack.json"
        self.secrets = root / "secrets.json"
        self.ports = root / "ports.json"
        self.lock = root / "up.lock"
        self.processes = root / "processes.json"
        self.postgres = root / "postgres"
        self.temporal_database = root / "temporal.db"
        self.cluster = f"loyalty-webhooks-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
        """Unique name in the titles of this stack's PostgreSQL processes, within the limit of 63 bytes."""

    @classmethod
    def at(cls, path: Path) -> "DataDirectory":
        """Return the data directory at `path`, which need not exist yet."""
        return cls(path.expanduser().resolve())

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def create(self) -> None:
        """Create the directory. An existing one keeps its mode. Raises StackError if it cannot be created or is not
        writable."""
        try:
            make_directory(self.root)
            make_directory(self.root / "logs")
        except OSError as error:
            raise StackError(
                f"The data directory {self.root} cannot be created: {error.strerror}. Use another one with --data-dir."
            ) from error
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise StackError(
                f"The data directory {self.root} is another user's or read-only. Use another one with --data-dir."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory for one `up`. The lock file holds our pid and is removed at the end.

        The kernel releases the lock when the process ends, so a file left by kill -9 does not block the next start.
        Raises StackError if another `up` holds the lock.
        """
        descriptor = self._acquire()
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            # Unlink while the lock is held: the next holder checks that its file still exists.
            self.lock.unlink(missing_ok=True)
            os.close(descriptor)

    def _acquire(self) -> int:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                descriptor = self._open_lock(os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                raise StackError(f"{self.root} does not exist.") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() >= deadline:
                    raise self.in_use() from None
                time.sleep(0.02)
                continue
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self.lock.stat()):
                    return descriptor
            os.close(descriptor)  # the previous holder removed the file between our open and our lock

    def _open_lock(self, flags: int) -> int:
        try:
            return os.open(self.lock, flags, PRIVATE_FILE)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StackError(f"{self.lock} cannot be opened: {error.strerror}.") from error

    def in_use(self) -> StackError:
        """Return the error for a directory that another `up` holds."""
        holder = self.holder()
        return StackError(
            f"Another `loyalty-webhooks up`{f' (pid {holder})' if holder else ''} is using {self.root}. Stop it with "
            f"`loyalty-webhooks down --data-dir {self.root}`, or use another directory with --data-dir."
        )

    def is_locked(self) -> bool:
        """Return True if an `up` runs on this directory."""
        try:
            descriptor = self._open_lock(os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def holder(self) -> int | None:
        """Return the pid of the `up` that runs on this directory. None if none runs, or it has just begun."""
        with contextlib.suppress(OSError, ValueError):
            if self.is_locked():
                return int(self.lock.read_text())
        return None


def make_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Create the directory and its missing parents with this mode, whatever the umask. Existing ones keep theirs."""
    for directory in (*reversed(path.parents), path):
        if not directory.is_dir():
            directory.mkdir(mode, exist_ok=True)  # another `up` may just have made it
            directory.chmod(mode)


def write_private(path: Path, text: str) -> None:
    """Replace the file atomically and durably by one with this text and mode 0600.

    A reader sees the old file or the new one, also after a power cut. Requires a single writer, which the data
    directory's lock ensures: the temporary file has a fixed name, so that killed writers leave at most one.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), PRIVATE_FILE)  # the umask may have removed bits
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove the file durably, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _previous(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")


def begin_log(path: Path) -> None:
    """Start a new log. The existing file becomes the previous one."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size:
            path.replace(_previous(path))


def open_log(path: Path) -> int:
    """Open the log for appending and return the file descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)


def bound_log(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
    """Truncate a log over the limit, after copying it to the previous file. Truncates in place because the writer holds
    the file open. Lines written during the copy are lost."""
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
