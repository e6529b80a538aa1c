"""The npm packages of `tests/node/`, installed once per checkout from its lock file."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node"
INSTALL_SECONDS = 240


def node() -> str:
    """The path of Node; skips the test where there is none."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed (Debian: apt install nodejs; .ci/run does)")
    return found


def node_modules() -> Path:
    """The folder `node_modules` with the packages; skips the test where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed (Debian: apt install npm)")
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the test processes of one run need it at the same time
        if not _up_to_date():
            _install(npm)
    finally:
        os.close(folder)
    return FOLDER / "node_modules"


def _up_to_date() -> bool:
    """Whether what is installed is newer than the lock file; npm writes one of its own at the end of an install."""
    installed = FOLDER / "node_modules" / ".package-lock.json"
    return installed.is_file() and installed.stat().st_mtime >= (FOLDER / "package-lock.json").stat().st_mtime


def _install(npm: str) -> None:
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm ci did not end within {INSTALL_SECONDS} s: is there a network?")
    if done.returncode != 0:
        pytest.skip(f"npm ci failed: {done.stderr.strip()[-300:]}")
