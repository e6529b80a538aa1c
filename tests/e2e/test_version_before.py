"""The code of the version before goes on running when the database has been migrated: API and worker, as processes.

Before there is a second release it is the code of the last commit that runs, so that the way of doing it is tried. A
failure here while nothing was released yet means that the tables were changed in place: commit, and it passes.
"""

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from domain.access import Scope
from storage.access.queries import create_key, new_key
from storage.database import Database
from tests.ground import STORE, Ground
from tests.house import PYPROJECT, ROOT
from tests.receiver import Receiver, status
from tests.running_processes import running_processes

pytestmark = pytest.mark.stack

ARRIVAL_SECONDS = 30
EVENTS = 20


def git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


def version_before() -> str:
    """The tag of the last release before the code at hand; while there is none, the last commit."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    return tag.stdout.decode().strip() if tag.returncode == 0 else "HEAD"


def unpacked(version: str, folder: Path) -> Path:
    """A version's files, in a folder."""
    archive = git("archive", version)
    assert archive.returncode == 0, archive.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    where = [sys.executable, "-P", "-c", "import cli; print(cli.__file__)"]
    run = subprocess.run(where, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(folder / "cli.py")  # the processes below run this code, not ours
    return folder


def test_the_tag_of_each_earlier_release_is_here() -> None:
    """Without its tag, as in a shallow clone, a release would be passed over below without a word."""
    released = set(re.findall(r"^## \[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    tags = {tag.removeprefix("v") for tag in git("tag", "--list", "v*").stdout.decode().split()}
    assert released - {PYPROJECT["project"]["version"]} <= tags, "git fetch --tags --unshallow"


async def test_the_code_before_delivers_on_the_schema_of_today(
    database_url: str, temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    code = unpacked(version_before(), tmp_path / "before")
    database = Database(database_url, pool_size=3)
    ground = Ground(database)
    await ground.add_store()
    key = new_key()
    async with database.transaction() as connection:
        await create_key(connection, "platform", key, (Scope.EVENT_EMIT,), ("*",))
    async with (
        Receiver() as receiver,
        running_processes(database_url, temporal, tmp_path, workers=1, PYTHONPATH=str(code)) as (api, _),
        httpx.AsyncClient(base_url=api.url, headers={"X-AUTH-TOKEN": key}, timeout=30) as client,
    ):
        receiver.script(status(500), status(503))
        await ground.subscribe("CustomerUpdated", receiver.url("/hook"))
        for _ in range(EVENTS):
            answer = await client.post(
                f"/api/{STORE}/event", json={"event": {"eventName": "CustomerUpdated", "data": {}}}
            )
            assert answer.status_code == 202, answer.text
        await ground.until_statuses({"delivered": EVENTS}, ARRIVAL_SECONDS)
    await database.close()
