"""The compose file and the image's recipe are as they should be, as far as can be seen without building or running."""

import base64
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import yaml
from sqlalchemy.engine import make_url

import cli
from commands.configuration import OPEN_FILES
from local.postgres import own_programs
from settings import Settings
from storage.database import Database
from storage.migrate import migrate
from telemetry.build import COMMIT_FILE
from tests.house import PACKAGES, PYPROJECT, ROOT, project_files
from tests.postgres_server import TestServer

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE = re.findall(r"^FROM (\S+) AS base$", DOCKERFILE, re.MULTILINE)[0]
SETTINGS = {name.upper() for name in Settings.model_fields}
REQUIRED = {name for name, field in Settings.model_fields.items() if field.is_required()}
TEMPORAL_CLIENT = {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}
OF_OTHERS = {
    "postgres": {"POSTGRES_PASSWORD_FILE"},
    "temporalio/admin-tools": {"SQL_PLUGIN", "SQL_HOST", "SQL_PORT", "SQL_USER", *TEMPORAL_CLIENT},
    "temporalio/server": {
        "DB",
        "DB_PORT",
        "DYNAMIC_CONFIG_FILE_PATH",
        "POSTGRES_SEEDS",
        "POSTGRES_USER",
        "BIND_ON_IP",
        "NUM_HISTORY_SHARDS",
    },
    "temporalio/ui": {"TEMPORAL_ADDRESS"},
    "grafana/grafana": {
        *("GF_SECURITY_ADMIN_PASSWORD__FILE", "GF_ANALYTICS_REPORTING_ENABLED", "GF_ANALYTICS_CHECK_FOR_UPDATES"),
    },
}
PINNED = re.compile(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?[\w.-]*")


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def printed(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def version_of(service: str) -> str:
    """Version of a service's image, such as `18.4`."""
    return str(SERVICES[service]["image"]).partition(":")[2].partition("-")[0]


@pytest.mark.parametrize(
    ("schema", "file"),
    [("compose-spec", "docker-compose.yml"), ("renovate", "renovate.json")],
    ids=["compose", "renovate"],
)
def test_a_file_is_valid_by_its_specification(schema: str, file: str) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", file]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    run = subprocess.run([tool("hadolint"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_there_is_one_service_for_each_part() -> None:
    assert set(SERVICES) == {
        *("postgres", "temporal-schema", "temporal", "temporal-namespace", "temporal-ui"),
        *("migrate", "api", "worker", "prometheus", "grafana"),
    }
    monitoring = {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]}
    assert monitoring == {"prometheus", "grafana"}
    assert set(OWN) == {"temporal-namespace", "migrate", "api", "worker"}


def test_every_image_is_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    assert [image for image in [BASE, *images] if not PINNED.fullmatch(image)] == []
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == [BASE, "base", "base"]
    assert BASE.startswith("python:3.13.")
    assert {service["image"] for service in OWN.values()} == {f"loyalty-webhooks:{PYPROJECT['project']['version']}"}


def test_renovate_reads_every_image() -> None:
    renovate = json.loads((ROOT / "renovate.json").read_text())
    assert set(renovate["enabledManagers"]) == {"docker-compose", "dockerfile"}
    named = {name for rule in renovate["packageRules"] for name in rule["matchPackageNames"]}
    assert named <= {service["image"].partition(":")[0] for service in SERVICES.values()} | {"python"}
    elsewhere = [
        f"{path.relative_to(ROOT)}: {image}"
        for path in project_files()
        if path.suffix in {".yaml", ".yml", ".md", ".sh"} and path.name != "docker-compose.yml"
        for image in re.findall(r"\bimage: (\S+)|docker run (\S+)", path.read_text())
        if image[0] != "loyalty-webhooks"
    ]
    assert elsewhere == []


@pytest.mark.usefixtures("programs")
def test_postgresql_and_temporal_have_the_versions_that_the_tests_run() -> None:
    postgres = printed([str(own_programs() / "postgres"), "--version"])
    assert postgres == f"postgres (PostgreSQL) {version_of('postgres')}"
    temporal = printed([tool("temporal"), "--version"])
    assert f"Server {version_of('temporal')}, UI {version_of('temporal-ui')})" in temporal
    assert version_of("temporal-schema") == version_of("temporal")


def test_every_variable_is_a_setting_or_one_of_the_image() -> None:
    unknown = {}
    for name, service in SERVICES.items():
        known = SETTINGS | TEMPORAL_CLIENT if name in OWN else OF_OTHERS.get(service["image"].partition(":")[0], set())
        unknown[name] = set(service.get("environment", {})) - known
    assert {name: variables for name, variables in unknown.items() if variables} == {}
    assert set(OWN["temporal-namespace"]["environment"]) == TEMPORAL_CLIENT
    of_the_image = set(re.findall(r"^(?:ENV| {4}) ?([A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    assert {"API_HOST", "WORKER_HEALTH_PORT"} <= of_the_image
    others = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PIP_DISABLE_PIP_VERSION_CHECK"}
    assert of_the_image - SETTINGS - others == set()


@pytest.mark.parametrize("name", sorted(OWN.keys() - {"temporal-namespace"}))
def test_every_required_setting_is_set_by_a_secret(name: str) -> None:
    required = REQUIRED | ({"jwt_secrets"} if name == "api" else set())
    assert set(OWN[name]["secrets"]) == required
    assert OWN[name]["environment"]["SECRETS_DIR"] == "/run/secrets"


@pytest.mark.parametrize("name", ["api", "worker"])
def test_settings_of_a_first_try_come_from_the_shell(name: str) -> None:
    of_the_shell = {variable for variable, value in OWN[name]["environment"].items() if value is None}
    assert of_the_shell == {"ALLOW_HTTP", "ALLOWED_PORTS", "ALLOWED_NETWORKS"}


def test_every_secret_used_is_declared_and_every_file_named_is_made_or_there(tmp_path: Path) -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])
    made = {path.name for path in make_secrets(tmp_path).iterdir()}
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == made
    mounted = [mount for service in SERVICES.values() for mount in service.get("volumes", ()) if mount[0] == "."]
    assert mounted
    assert [mount for mount in mounted if not (ROOT / mount.partition(":")[0]).exists()] == []


@pytest.mark.parametrize("name", OWN)
def test_every_command_is_one_of_the_command_line(name: str) -> None:
    command = OWN[name]["command"]
    assert command == (["temporal", "setup"] if name == "temporal-namespace" else [name])
    assert command[0] in cli.COMMANDS
    assert '\nENTRYPOINT ["loyalty-webhooks"]\n' in DOCKERFILE


def test_nothing_is_published_beyond_the_loopback_address() -> None:
    ports = [str(port) for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert [name for name, service in SERVICES.items() if "network_mode" in service] == []


def test_workers_can_be_as_many_as_wanted() -> None:
    assert not {"ports", "container_name", "deploy"} & set(SERVICES["worker"])


@pytest.mark.parametrize("name", OWN)
def test_our_containers_may_do_little(name: str) -> None:
    service = OWN[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", OWN)
def test_our_containers_may_open_as_many_files_as_our_processes_ask_for(name: str) -> None:
    assert OWN[name]["ulimits"]["nofile"] == {"soft": OPEN_FILES, "hard": OPEN_FILES}


def test_every_service_waits_for_what_it_needs_to_be_done_or_well() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            one_shot = SERVICES[needed]["restart"].startswith("on-failure")
            assert condition == ("service_completed_successfully" if one_shot else "service_healthy")
            assert one_shot or "healthcheck" in SERVICES[needed]


def test_the_image_is_built_from_everything_that_is_installed_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {*PACKAGES, "LICENSE", "README.md", "pyproject.toml", "requirements.lock"}


def make_secrets(folder: Path) -> Path:
    made = folder / "secrets"
    command = ["sh", str(ROOT / "deploy" / "secrets.sh"), str(made)]
    subprocess.run(command, capture_output=True, check=True)
    return made


def test_secrets_are_made_once_and_kept_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool("openssl")
    folder = make_secrets(tmp_path)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    make_secrets(tmp_path)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    for name in ("DATABASE_URL", "ENCRYPTION_KEYS", "JWT_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRETS_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    (key,) = settings.encryption_keys
    assert len(base64.urlsafe_b64decode(key.get_secret_value())) == 32
    assert make_url(settings.database_url.get_secret_value()).host in SERVICES
    other = make_secrets(tmp_path / "other")
    assert {path.name for path in other.iterdir() if path.read_text() == before[path.name]} == set()


@pytest.fixture
def server(programs: None) -> Iterator[TestServer]:
    server = TestServer()
    try:
        yield server
    finally:
        server.stop()


async def test_the_first_start_of_postgresql_makes_databases_that_their_owners_alone_can_use(
    server: TestServer, tmp_path: Path
) -> None:
    folder = make_secrets(tmp_path)
    at = make_url(server.url)
    environment = {
        **{"PATH": f"{own_programs()}:{os.environ['PATH']}", "SECRETS_DIR": str(folder)},
        **{"PGHOST": str(at.host), "PGPORT": str(at.port), "PGPASSWORD": str(at.password)},
        "POSTGRES_USER": str(at.username),
    }
    command = ["sh", str(ROOT / "deploy" / "postgres-databases.sh")]
    subprocess.run(command, env=environment, check=True)
    url = (folder / "database_url").read_text().strip().replace("@postgres:5432/", f"@{at.host}:{at.port}/")
    database = Database(url, pool_size=2)
    try:
        before, _ = await migrate(database)
    finally:
        await database.close()
    assert before is None
    password = (folder / "temporal_database_password").read_text().strip()
    of_temporal = f"postgresql://temporal:{password}@{at.host}:{at.port}"
    for name in ("temporal", "temporal_visibility"):
        connection = await asyncpg.connect(f"{of_temporal}/{name}")
        await connection.execute("CREATE TABLE sample ()")
        await connection.close()
    connection = await asyncpg.connect(f"{of_temporal}/loyalty_webhooks")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT * FROM event")
    await connection.close()


def test_the_image_tells_the_commit_it_was_built_from() -> None:
    assert f">{COMMIT_FILE.relative_to(ROOT)}\n" in DOCKERFILE
    assert OWN["api"]["build"]["args"] == {"COMMIT": "${COMMIT:-}"}
