"""stack.json is what scripts read: its keys are fixed."""

import json
from pathlib import Path

from local.data_directory import remove
from local.stack_file import AdminLogin, Pids, Stack, read_stack, write_stack

STACK = Stack(
    api="http://127.0.0.1:1",
    panel="http://127.0.0.1:1/admin",
    docs="http://127.0.0.1:1/docs",
    temporal_ui="http://127.0.0.1:2",
    temporal="127.0.0.1:3",
    namespace="default",
    database="postgresql://loyalty:secret@127.0.0.1:4/loyalty_webhooks",
    admin=AdminLogin(username="admin", password="secret"),
    api_key="lw_secret",
    store="default",
    pids=Pids(api=1, worker=2, temporal=3, postgres=4),
)


def test_the_file_has_exactly_the_documented_keys_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    write_stack(path, STACK)
    content = json.loads(path.read_text())
    assert set(content) == {
        *("api", "panel", "docs", "temporal_ui", "temporal", "namespace", "database", "admin", "api_key", "store"),
        "pids",
    }
    assert set(content["admin"]) == {"username", "password"}
    assert set(content["pids"]) == {"api", "worker", "temporal", "postgres"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_written_is_read_and_what_is_removed_is_not(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    assert read_stack(path) is None
    write_stack(path, STACK)
    assert read_stack(path) == STACK
    remove(path)
    remove(path)
    assert read_stack(path) is None


def test_a_file_that_is_not_ours_is_no_stack(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    for text in ("", "{}", '{"services": []}'):
        path.write_text(text)
        assert read_stack(path) is None
