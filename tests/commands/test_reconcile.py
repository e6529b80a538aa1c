"""`reconcile` names what could not be reached."""

from pathlib import Path

from cryptography.fernet import Fernet
from temporalio.testing import WorkflowEnvironment

from tests.commands.running import run


async def test_a_database_that_is_away_is_not_reported_as_a_fault_of_temporal(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    environment = {
        "DATABASE_URL": "postgresql://somebody@127.0.0.1:9/none",
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
    }
    ended = await run("reconcile", directory=tmp_path, environment=environment)
    assert ended.code == 1
    assert "The database of DATABASE_URL cannot be reached" in ended.errors
    assert "Temporal" not in ended.errors
