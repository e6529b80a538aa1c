"""Files with secrets are private, whole, and made without touching what was there."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.data_directory import make_directory, remove, write_private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o177, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:  # after tmp_path is made
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_file_is_0600_whatever_the_umask(tmp_path: Path) -> None:
    write_private(tmp_path / "file", "text")
    assert mode_of(tmp_path / "file") == 0o600
    assert (tmp_path / "file").read_text() == "text"


def test_replacing_a_file_narrows_its_mode_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (mode_of(path), path.read_text()) == (0o600, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_keeps_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with path.open() as reader:
        write_private(path, "new")
        assert reader.read() == "old"


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / ".file.new"
    left.write_text("half")
    left.chmod(0o644)
    write_private(tmp_path / "file", "whole")
    assert mode_of(tmp_path / "file") == 0o600
    assert not left.exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_directories_are_private_and_existing_ones_keep_their_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_directory(tmp_path / "a" / "b")
    assert [mode_of(path) for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")] == [0o755, 0o700, 0o700]


def test_removing_a_file_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "file")
