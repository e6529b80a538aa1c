"""Secrets come from files as containers are given them, and the environment wins over them."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from bench.transport import unchanged
from settings import Settings
from tests.commands.running import run
from worker import egress_proxy, sender_settings

URL = "postgresql://somebody:something@db.example.com/loyalty"


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
async def test_what_is_wrong_with_the_files_is_said_without_their_contents(
    secrets: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    spoil(secrets)
    ended = await run("migrate", directory=secrets.parent, environment={"SECRETS_DIR": str(secrets)})
    assert ended.code == 2
    assert complaint in ended.errors
    assert "something" not in ended.errors


def test_the_egress_proxy_and_its_exceptions_are_read(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "egress_proxy_url").write_text("http://user:p%40ss@proxy.internal:3128\n")
    monkeypatch.setenv("EGRESS_NO_PROXY", ".Example.com, 10.0.0.0/8, 2001:db8::1,hooks.example.org")
    monkeypatch.setenv("EGRESS_PROXY_RESOLVES", "true")
    settings = Settings()
    assert settings.egress_no_proxy == (
        "example.com",
        IPv4Network("10.0.0.0/8"),
        IPv6Network("2001:db8::1"),
        "hooks.example.org",
    )
    assert "p%40ss" not in repr(settings)
    proxy = egress_proxy(settings)
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.secure, proxy.resolves) == ("proxy.internal", 3128, False, True)
    assert proxy.authorization == "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"


def test_a_transport_of_ones_own_is_named_by_a_setting(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sender_settings(Settings()).transport is None
    monkeypatch.setenv("HTTP_TRANSPORT", "bench.transport:unchanged")
    assert sender_settings(Settings()).transport is unchanged


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EGRESS_PROXY_URL", "socks5://proxy.internal:1080"),
        ("EGRESS_PROXY_URL", "proxy.internal:3128"),
        ("EGRESS_PROXY_URL", "http://user:secret@/"),
        ("EGRESS_PROXY_URL", "http://user:secret@proxy.internal:70000"),
        ("EGRESS_PROXY_URL", "http://user:secret@proxy.internal/path"),
        ("EGRESS_NO_PROXY", "http://example.com"),
        ("EGRESS_NO_PROXY", "*"),
        ("EGRESS_NO_PROXY", "example.com:443"),
    ],
)
async def test_what_is_no_proxy_is_refused_and_not_repeated(secrets: Path, name: str, value: str) -> None:
    ended = await run("migrate", directory=secrets.parent, environment={"SECRETS_DIR": str(secrets), name: value})
    assert ended.code == 2
    assert ended.errors.startswith((f"{name}: ", f"{name}.0: "))
    assert "secret@" not in ended.errors
