"""Logs keep what a person needs to see, and no more than fits."""

import os
from pathlib import Path

import pytest

from local.data_directory import begin_log, bound_log, open_log, tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "api.log"


def append(log: Path, text: str) -> None:
    descriptor = open_log(log)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_a_new_log_keeps_the_one_before(log: Path) -> None:
    for text in ("first", "second", "third"):
        begin_log(log)
        append(log, text)
    assert log.read_text() == "third"
    assert log.with_name("api.log.1").read_text() == "second"


def test_an_empty_log_does_not_push_the_one_before_out(log: Path) -> None:
    append(log, "something")
    begin_log(log)
    append(log, "")
    begin_log(log)
    assert log.with_name("api.log.1").read_text() == "something"


def test_a_log_is_private(log: Path) -> None:
    append(log, "text")
    bound_log(log, limit_bytes=1)
    assert {path.stat().st_mode & 0o777 for path in log.parent.iterdir()} == {0o600}


def test_a_log_over_its_limit_is_emptied_while_its_writer_goes_on(log: Path) -> None:
    writer = open_log(log)
    os.write(writer, b"x" * 100)
    bound_log(log, limit_bytes=100)
    assert log.stat().st_size == 100
    os.write(writer, b"y")
    bound_log(log, limit_bytes=100)
    os.write(writer, b"after\n")
    os.close(writer)
    assert log.read_text() == "after\n"
    assert log.with_name("api.log.1").read_text() == "x" * 100 + "y"


def test_the_tail_is_the_last_lines_even_of_a_huge_or_odd_log(log: Path) -> None:
    append(log, "".join(f"line {number}\n" for number in range(100_000)))
    assert tail(log, lines=2) == "line 99998\nline 99999"
    log.write_bytes(b"\xff\xfe\n")
    assert tail(log) == "��"
    assert tail(log.with_name("none.log")) == ""
