"""An environment with openapi-python-client, installed once per checkout from its lock file."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import ROOT

FOLDER = ROOT / "tests" / "openapi_client"
LOCK = FOLDER / "requirements.lock"
VENV = ROOT / ".venv-clients"
INSTALLED = VENV / ".installed"
INSTALL_SECONDS = 240


def client_generator() -> Path:
    """The folder of the environment's programs; skips the test where its packages cannot be had."""
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the test processes of one run need it at the same time
        if not INSTALLED.is_file() or INSTALLED.stat().st_mtime < LOCK.stat().st_mtime:
            _install()
    finally:
        os.close(folder)
    return VENV / "bin"


def _install() -> None:
    pip = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", LOCK]
    try:
        for command in ([sys.executable, "-m", "venv", "--clear", VENV], pip):
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            if done.returncode != 0:
                pytest.skip(f"openapi-python-client not installed: {done.stderr.strip()[-300:]}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"openapi-python-client not installed within {INSTALL_SECONDS} s: is there a network?")
    INSTALLED.touch()
