"""`up --detach` returns when the stack is healthy, whatever becomes of the demo."""

import os
import signal
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from local.data_directory import DataDirectory
from local.screen import Screen
from local.stack_file import AdminLogin, Pids, Stack, write_stack
from local.up import READY, UpOptions, start_detached

HEALTHY_AND_BUSY = f"import os, signal, sys; os.write(int(sys.argv[1]), {READY!r}); signal.pause()"


def test_a_demo_without_end_leaves_the_healthy_stack_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataDirectory.at(tmp_path)
    data.create()
    pids = Pids(api=1, worker=1, temporal=1, postgres=1)
    names = ("api", "panel", "docs", "temporal_ui", "temporal", "namespace", "database", "api_key", "store")
    stack = Stack(**dict.fromkeys(names, "x"), admin=AdminLogin(username="a", password="b"), pids=pids)
    write_stack(data.stack, stack)
    program = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())); {HEALTHY_AND_BUSY}"
    monkeypatch.setattr("local.up._command", lambda _, descriptor: (sys.executable, "-c", program, str(descriptor)))
    monkeypatch.setattr("local.up.DEMO_WITHIN_SECONDS", 0.1)
    monkeypatch.setattr("local.up.READY_WITHIN_SECONDS", 20.0)
    said = StringIO()
    start_detached(UpOptions(data, {}, demo=True), Screen(Console(file=said)))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert "The demo has not ended yet" in said.getvalue()
