"""Secrets come from files as containers are given them, and the environment wins over them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from settings import Settings

URL = "postgresql://somebody:something@db.example.com/loyalty"
PROGRAM = str(Path(sys.executable).with_name("loyalty-webhooks"))


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "database_url").write_text(f"{URL}\n")
    (folder / "encryption_keys").write_text(f"{Fernet.generate_key().decode()}\n")
    (folder / "jwt_secrets").write_text(f"{'a' * 32},{'b' * 32}\n")
    for name in ("DATABASE_URL", "ENCRYPTION_KEYS", "JWT_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRETS_DIR", str(folder))
    monkeypatch.chdir(tmp_path)  # no `.env` there
    return folder


def test_secrets_are_read_from_files_without_their_line_ends(secrets: Path) -> None:
    settings = Settings()
    assert settings.database_url.get_secret_value() == URL
    assert [secret.get_secret_value() for secret in settings.jwt_secrets] == ["a" * 32, "b" * 32]
    assert len(settings.encryption_keys) == 1


def test_the_environment_wins_over_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere.example.com/loyalty")
    assert Settings().database_url.get_secret_value() == "postgresql://elsewhere.example.com/loyalty"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "database_url").unlink(), "DATABASE_URL: is not set"),
        (lambda folder: (folder / "encryption_keys").write_text("\n"), "ENCRYPTION_KEYS is empty"),
        (lambda folder: folder.rename(folder.with_name("away")), "SECRETS_DIR: is not a folder"),
        (lambda folder: (folder.rename(folder.with_name("away")), folder.touch()), "SECRETS_DIR: is not a folder"),
    ],
    ids=["a file is missing", "a file is empty", "there is no folder", "it is no folder"],
)
def test_what_is_wrong_with_the_files_is_said_without_their_contents(
    secrets: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    spoil(secrets)
    run = subprocess.run([PROGRAM, "migrate"], env=os.environ, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert complaint in run.stderr
    assert "something" not in run.stderr
    assert "Traceback" not in run.stderr
