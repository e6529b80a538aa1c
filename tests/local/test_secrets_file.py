"""Secrets are made once, and never made anew where that would lock somebody out."""

import json
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from local.data_directory import StackError
from local.stack_file import load_or_create, new_secrets


def test_every_start_finds_the_secrets_of_the_first(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "secrets.json", tmp_path / "postgres")
    (tmp_path / "postgres").mkdir()
    assert load_or_create(tmp_path / "secrets.json", tmp_path / "postgres") == first


def test_the_file_is_private_also_after_somebody_opened_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    load_or_create(path, tmp_path / "postgres")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    load_or_create(path, tmp_path / "postgres")
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_installations_share_no_secret() -> None:
    one, other = new_secrets().model_dump(), new_secrets().model_dump()
    assert one["admin"].pop("username") == other["admin"].pop("username")
    assert not any(one[name] == other[name] for name in one)


def test_each_secret_can_be_used_where_it_goes() -> None:
    secrets = new_secrets()
    Fernet(secrets.encryption_keys[0])
    assert len(secrets.jwt_secrets[0]) >= 32
    for text in (secrets.database_password, secrets.api_key, secrets.admin.password):
        assert text.replace("-", "").replace("_", "").isalnum()


def test_a_database_without_its_secrets_is_not_given_new_ones(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(StackError, match="is missing"):
        load_or_create(tmp_path / "secrets.json", tmp_path / "postgres")
    assert not (tmp_path / "secrets.json").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"api_key": ""}', "\xff"],
    ids=["empty", "cut off", "a list", "null", "fields missing", "not UTF-8"],
)
def test_a_damaged_file_is_kept_and_said_without_its_contents(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StackError, match=r"secrets\.json"):
        load_or_create(path, tmp_path / "postgres")
    assert path.read_bytes() == text.encode("latin-1")


def test_an_error_names_the_field_and_not_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    content = new_secrets().model_dump()
    content["database_password"] = ["not-a-text-but-secret"]
    path.write_text(json.dumps(content))
    with pytest.raises(StackError) as refused:
        load_or_create(path, tmp_path / "postgres")
    assert "database_password" in str(refused.value)
    assert "not-a-text-but-secret" not in str(refused.value)
