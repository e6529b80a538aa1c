"""`emit` sends what it is given to a real API and says what became of each event."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from domain.events.catalogue import CATALOGUE
from local.data_directory import DataDirectory
from local.event_sender import BATCH_EVENTS
from local.stack_file import AdminLogin, Pids, Stack, write_stack
from tests.api.running import RunningApi, running_api
from tests.api.serving import serving
from tests.commands.running import Ended, run, running

SEEDS = [name for name, event_type in CATALOGUE.items() if event_type.seed]


@dataclass(frozen=True)
class Emitting:
    """An API on a port of its own, and `emit` sending to it from `directory`."""

    api: RunningApi
    root: str
    key: str
    directory: Path

    async def emit(self, *arguments: str, standard_input: bytes = b"", **environment: str) -> Ended:
        given = {"LOYALTY_WEBHOOKS_API": self.root, "LOYALTY_WEBHOOKS_KEY": self.key} | environment
        return await run("emit", *arguments, directory=self.directory, environment=given, standard_input=standard_input)

    async def file(self, *lines: str | bytes) -> str:
        path = self.directory / "events.ndjson"
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
        return str(path)


@pytest.fixture
async def emitting(database_url: str, tmp_path: Path) -> AsyncIterator[Emitting]:
    async with running_api(database_url) as api, serving(api.app) as root:
        yield Emitting(api, root, api.client.headers["X-AUTH-TOKEN"], tmp_path)


def numbers(ended: Ended) -> tuple[int, int, int]:
    """(accepted, duplicate, rejected) of the table."""
    lines = [line.split() for line in ended.output.splitlines()]
    position = lines.index(["accepted", "duplicate", "rejected"])
    accepted, duplicate, rejected = (int(cell.replace(",", "")) for cell in lines[position + 1])
    return accepted, duplicate, rejected


async def test_one_event_arrives_with_its_numbers_as_written(emitting: Emitting) -> None:
    ended = await emitting.emit("AvailablePointsAmountChanged", "--data", '{"amountChange": 10.10}')
    assert ended.code == 0, ended.errors
    assert numbers(ended) == (1, 0, 0)
    (stored,) = await emitting.api.execute("SELECT event_id::text, data FROM event_body")
    assert stored[0] in ended.output
    assert "10.10" in stored[1]


async def test_the_same_id_is_a_duplicate_and_with_other_content_rejected(emitting: Emitting) -> None:
    once = ("CustomerUpdated", "--event-id", str(uuid4()), "--data")
    assert numbers(await emitting.emit(*once, "{}")) == (1, 0, 0)
    again = await emitting.emit(*once, "{}")
    assert (again.code, numbers(again)) == (0, (0, 1, 0))
    other = await emitting.emit(*once, '{"customer":{"customerId":"7"}}')
    assert (other.code, numbers(other)) == (1, (0, 0, 1))
    assert "data.customer" in other.output


async def test_bad_lines_are_reported_by_number_and_the_good_ones_kept(emitting: Emitting) -> None:
    good = '{"eventName":"CustomerUpdated","data":{}}'
    lines: list[str | bytes] = [good] * 600
    lines[2] = "{"
    lines[10] = '{"eventName":"CustomerUpdatd","data":{}}'
    lines[11] = '{"eventName":"CustomerUpdatd","data":{}}'
    lines[597] = '{"eventName":"CustomerUpdated","data":{"nothing":1}}'
    ended = await emitting.emit("--file", await emitting.file(*lines))
    assert (ended.code, numbers(ended)) == (1, (596, 0, 4))
    assert await emitting.api.count() == 596
    rows = [" ".join(line.split()) for line in ended.output.splitlines()]
    assert any(row.startswith("3 not JSON") for row in rows)
    assert any(row.startswith("11-12 CustomerUpdatd eventName: ") and "CustomerUpdated" in row for row in rows)
    assert any(row.startswith("598 CustomerUpdated data.nothing: ") for row in rows)


async def test_an_event_larger_than_allowed_does_not_take_its_batch_with_it(emitting: Emitting) -> None:
    large = json.dumps({"eventName": "CustomerUpdated", "data": {"customer": {"firstName": "x" * 300_000}}})
    small = '{"eventName":"CustomerUpdated","data":{}}'
    ended = await emitting.emit("--file", await emitting.file(small, small, large, small))
    assert (ended.code, numbers(ended)) == (1, (3, 0, 1))


async def test_a_batch_with_a_known_id_of_other_content_keeps_its_other_events(emitting: Emitting) -> None:
    event_id = str(uuid4())
    first = json.dumps({"eventName": "CustomerUpdated", "eventId": event_id, "data": {}})
    other = json.dumps({"eventName": "CustomerDeactivated", "eventId": event_id, "data": {}})
    new = '{"eventName":"CustomerUpdated","data":{}}'
    assert (await emitting.emit("--file", await emitting.file(first))).code == 0
    ended = await emitting.emit("--file", await emitting.file(new, other, new, first))
    assert (ended.code, numbers(ended)) == (1, (2, 1, 1))
    assert "eventName" in ended.output


async def test_lines_of_bare_data_are_events_of_the_name_given(emitting: Emitting) -> None:
    ended = await emitting.emit("CustomerUpdated", "--file", "-", standard_input=b"{}\n\n{}\n")
    assert (ended.code, numbers(ended)) == (0, (2, 0, 0))
    assert await emitting.api.execute("SELECT DISTINCT name FROM event") == [("CustomerUpdated",)]


async def test_samples_of_every_event_of_an_installation_are_accepted(emitting: Emitting) -> None:
    ended = await emitting.emit("--sample")
    assert (ended.code, numbers(ended)) == (0, (17, 0, 0))
    assert {row[0] for row in await emitting.api.execute("SELECT name FROM event")} == set(SEEDS)


async def test_with_json_every_event_is_a_line_with_its_id(emitting: Emitting) -> None:
    ended = await emitting.emit("CustomerUpdated", "--sample", "--count", "30", "--json")
    lines = [json.loads(line) for line in ended.output.splitlines()]
    stored = {str(row[0]) for row in await emitting.api.execute("SELECT event_id FROM event")}
    assert ({line["eventId"] for line in lines}, len(stored)) == (stored, 30)
    assert {line["outcome"] for line in lines} == {"accepted"}
    mixed = await emitting.file('{"eventName":"CustomerUpdated","data":{}}', "{")
    ended = await emitting.emit("--file", mixed, "--json")
    assert [json.loads(line)["outcome"] for line in ended.output.splitlines()] == ["accepted", "rejected"]


async def test_a_rate_is_kept_and_progress_is_shown(emitting: Emitting) -> None:
    started = time.monotonic()
    ended = await emitting.emit("CustomerUpdated", "--sample", "--count", "250", "--rate", "100")
    assert time.monotonic() - started >= 249 / 100
    assert (ended.code, numbers(ended)) == (0, (250, 0, 0))
    assert " of 250" in ended.errors


async def test_api_key_and_store_of_a_local_stack_are_found_in_its_directory(emitting: Emitting) -> None:
    stack = Stack(
        api=emitting.root,
        panel="",
        docs="",
        temporal_ui="",
        temporal="",
        namespace="",
        database="",
        admin=AdminLogin(username="a", password="b"),
        api_key=emitting.key,
        store="default",
        pids=Pids(api=1, worker=1, temporal=1, postgres=1),
    )
    data = DataDirectory.at(emitting.directory / "d")
    data.create()
    write_stack(data.stack, stack)
    with data.locked():
        ended = await run("emit", "CustomerUpdated", "--sample", "--data-dir", "d", directory=emitting.directory)
    assert (ended.code, numbers(ended)) == (0, (1, 0, 0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["CustomerUpdated"], "one of --data, --file and --sample", id="nothing to send"),
        pytest.param(["CustomerUpdated", "--sample", "--data", "{}"], "one of --data", id="two things to send"),
        pytest.param(["--data", "{}"], "needs an EventName", id="data without a name"),
        pytest.param(["CustomerUpdatd", "--sample"], "did you mean CustomerUpdated?", id="sample of no event"),
        pytest.param(["--file", "nowhere.ndjson"], "cannot be read", id="no file"),
        pytest.param(["A", "--file", "-", "--count", "3"], "--count needs --sample", id="count of a file"),
        pytest.param(["A", "--data", "{}", "--store", "a/b"], "is not a store code", id="store that is a path"),
        pytest.param(["A", "--data", "{}", "--api", "localhost"], "is not an address", id="api without a scheme"),
        pytest.param(["A", "--data", "{}", "--event-id", "7"], "--event-id", id="id that is none"),
    ],
)
async def test_wrong_usage_is_explained_and_sends_nothing(tmp_path: Path, arguments: list[str], said: str) -> None:
    environment = {"LOYALTY_WEBHOOKS_API": "http://127.0.0.1:9", "LOYALTY_WEBHOOKS_KEY": "k"}
    ended = await run("emit", *arguments, directory=tmp_path, environment=environment)
    assert ended.code == 2
    assert said in " ".join(ended.errors.replace("│", " ").split())


async def test_without_a_stack_and_without_an_api_it_says_how_to_get_one(tmp_path: Path) -> None:
    ended = await run("emit", "CustomerUpdated", "--sample", directory=tmp_path)
    assert ended.code == 2
    assert "loyalty-webhooks up" in " ".join(ended.errors.split())


async def test_a_key_is_not_sent_to_another_api_than_its_own(emitting: Emitting) -> None:
    ended = await run(
        "emit", "CustomerUpdated", "--sample", directory=emitting.directory, environment={"LOYALTY_WEBHOOKS_API": "x"}
    )
    assert ended.code == 2


async def test_a_refused_key_and_an_unknown_store_end_it_at_once(emitting: Emitting) -> None:
    refused = await emitting.emit("CustomerUpdated", "--sample", LOYALTY_WEBHOOKS_KEY="wrong")
    assert refused.code == 2
    assert "the key is not accepted" in refused.errors
    unknown = await emitting.emit("CustomerUpdated", "--sample", "--store", "elsewhere")
    assert unknown.code == 2
    assert "no store 'elsewhere'" in unknown.errors


async def test_an_api_that_does_not_come_back_is_given_up_with_where_to_go_on(emitting: Emitting) -> None:
    file = await emitting.file("{", '{"eventName":"CustomerUpdated","data":{}}')
    ended = await emitting.emit("--file", file, "--patience", "0.3", LOYALTY_WEBHOOKS_API="http://127.0.0.1:9")
    assert ended.code == 2
    assert "Stopped at line 2" in ended.errors
    assert "--from-line 2" in ended.errors
    assert numbers(ended) == (0, 0, 1)


async def test_ctrl_c_reports_what_was_sent_so_far(emitting: Emitting) -> None:
    options = ("--sample", "--count", "10000", "--rate", "50", "--api", emitting.root, "--key", emitting.key)
    async with running("emit", "CustomerUpdated", *options, directory=emitting.directory) as process:
        async with asyncio.timeout(60):
            while await emitting.api.count() < 5:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            output, errors = (text.decode() for text in await process.communicate())
    ended = Ended(process.returncode or 0, output, errors)
    accepted, duplicate, rejected = numbers(ended)
    assert ended.code == 2
    assert (duplicate, rejected) == (0, 0)
    assert 1 <= accepted <= await emitting.api.count() <= accepted + BATCH_EVENTS  # the last of them was under way
    assert f"Stopped at line {accepted + 1}: interrupted." in errors
