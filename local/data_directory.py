"""Data directory of a stack: its paths and its lock."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.errors import StackError
from local.private_file import PRIVATE_FILE, make_private_directory

DEFAULT_DATA_DIRECTORY = Path(".loyalty-webhooks")
LOCK_PATIENCE_SECONDS = 0.3
"""Time to wait for the lock. `status` and `down` take it for an instant to see if it is held."""


@dataclass(frozen=True)
class DataDirectory:
    """Paths inside the data directory. `root` is absolute and without symbolic links."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> "DataDirectory":
        """Return the data directory at `path`, which need not exist yet."""
        return cls(path.expanduser().resolve())

    @property
    def stack(self) -> Path:
        return self.root / "stack.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def processes(self) -> Path:
        return self.root / "processes.json"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def temporal_database(self) -> Path:
        return self.root / "temporal.db"

    @property
    def cluster(self) -> str:
        """Unique name in the titles of this stack's PostgreSQL processes, within the limit of 63 bytes."""
        return f"loyalty-webhooks-{hashlib.sha256(str(self.root).encode()).hexdigest()[:12]}"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def create(self) -> None:
        """Create the directory. An existing one keeps its mode.

        Raises StackError if it cannot be created or is not writable.
        """
        try:
            make_private_directory(self.root)
            make_private_directory(self.root / "logs")
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
                descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
            except OSError as error:
                raise StackError(f"{self.lock} cannot be opened: {error.strerror}.") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() >= deadline:
                    raise self.in_use() from None
                time.sleep(0.02)
                continue
            if _is_at(descriptor, self.lock):
                return descriptor
            os.close(descriptor)  # the previous holder removed the file between our open and our lock

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
            descriptor = os.open(self.lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StackError(f"{self.lock} cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def holder(self) -> int | None:
        """Return the pid of the `up` that runs on this directory. None if none runs, or it has just begun."""
        if not self.is_locked():
            return None
        try:
            return int(self.lock.read_text())
        except (OSError, ValueError):
            return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
