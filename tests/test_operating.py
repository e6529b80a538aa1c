"""docs/operating.md followed to the letter: from a PostgreSQL and a Temporal to deliveries, and through an upgrade."""

import re
import sys
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from settings import Settings
from tests.databases import empty_database
from tests.house import ROOT
from tests.replay.actions import table
from tests.temporal_server import PROGRAMS
from tests.test_readme import free_port, terminal

PAGE = (ROOT / "docs" / "operating.md").read_text()
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
RUN = [block for language, block in BLOCKS if language == "sh"]
BLOCK_SECONDS = 150  # one starts two processes and waits for both, beside whatever else is tested
PORTS = ("8080", "8081", "8082", "9000")


def test_the_actions_told_are_those_of_the_recorded_histories() -> None:
    assert "\n".join(table()) in PAGE, "python -m tests.replay.actions prints them"


def test_the_task_queue_that_workers_poll_is_named() -> None:
    assert Settings.model_fields["task_queue"].default in PAGE


def test_what_is_not_run_says_that_it_needs_what_is_not_here() -> None:
    others = {language for language, _ in BLOCKS} - {"sh"}
    assert others == {"console", "text", "yaml"}
    typed = [line for language, block in BLOCKS if language == "console" for line in block.splitlines()]
    programs = {line.split()[1] for line in typed if line.startswith("$ ")}
    assert programs <= {"docker", "kubectl", "sh"}


@pytest.mark.stack
@pytest.mark.timeout(600)
async def test_the_page_is_followed_to_the_letter(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    ports = {port: free_port() for port in PORTS}
    async with (
        empty_database() as database_url,
        await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(PROGRAMS / "temporal"), dev_server_log_level="never"
        ) as temporal,
        terminal(tmp_path, "9000") as shell,
    ):
        await shell.run("set -o errexit -o pipefail")
        printed: list[str] = []
        for block in RUN:
            here = re.sub(r"postgresql://\S+", database_url, block)
            here = here.replace("temporal.example.com:7233", temporal.client.service_client.config.target_host)
            assert "example.com" not in here
            for port, free in ports.items():
                here = re.sub(rf"\b{port}\b", free, here)
            printed += await shell.run(here, BLOCK_SECONDS)
        await shell.run("set +o errexit; kill $(jobs -p); wait")
    text = "\n".join(printed)
    assert "Namespace loyalty would be made" in text
    assert "Namespace loyalty was made" in text
    assert "Version 1 runs workflows now." in text
    assert "Version 2 runs 10 % of workflows now." in text
    assert "Version 2 runs workflows now." in text
    assert "-- nothing to do" in text
    assert "already" in text
    for log in ("api.log", "worker-1.log", "worker-2.log"):
        assert "Traceback" not in (tmp_path / log).read_text(), log
