"""The programs of docs/receiving.md run, take genuine deliveries, drop repeats and refuse everything else."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from domain.urls.rules import normalise_url
from domain.wire.signing import format_secret, signature_headers
from sending.requests import TEST_HEADER
from tests.domain.reference_signatures import VECTORS
from tests.node_packages import node, node_modules
from tests.pages import free_port
from tests.sending.http.sending import LOCAL, local_sender, request_to

PAGE = Path(__file__).parents[1] / "docs" / "receiving.md"
NEW_KEY, OLD_KEY, FOREIGN_KEY = (format_secret(bytes([n]) * 32) for n in range(3))
BODY = '{"messageId":"…","eventName":"CustomerUpdated","data":{"amount":10.10}}'.encode()
START_SECONDS = 20


def program(name: str) -> str:
    """The fenced block whose first lines name it `name`."""
    blocks: list[str] = re.findall(r"^```[a-z]+\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found = [block for block in blocks if name in "".join(block.splitlines(keepends=True)[:2])]
    assert len(found) == 1, f"{len(found)} programs are called {name}"
    return found[0]


def php() -> str:
    found = shutil.which("php")
    if found is None:
        pytest.skip("php is not installed (Debian: apt install php-cli; .ci/run does)")
    return found


INTERPRETERS: dict[str, Callable[[], str]] = {"py": lambda: sys.executable, "mjs": node, "php": php}
pytestmark = pytest.mark.usefixtures("programs")
languages = pytest.mark.parametrize("language", INTERPRETERS)


@asynccontextmanager
async def running_receiver(language: str, folder: Path) -> AsyncIterator[str]:
    """Start the page's receiver; yields its URL."""
    interpreter, name, port = INTERPRETERS[language](), f"receiver.{language}", int(free_port())
    (folder / name).write_text(program(name))
    serve = ["-S", f"127.0.0.1:{port}"] if language == "php" else []
    environment = os.environ | {
        "WEBHOOK_KEYS": f"{NEW_KEY},{OLD_KEY}",
        "PORT": str(port),
        "INBOX": str(folder / "inbox"),
    }
    process = await asyncio.create_subprocess_exec(
        interpreter, *serve, name, cwd=folder, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert process.returncode is None, "the program ended"
                assert time.monotonic() < deadline, "the program does not listen"
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
        yield f"http://127.0.0.1:{port}/hook"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass(frozen=True)
class Delivery:
    """What a test sends, signed as the product signs."""

    key: str = NEW_KEY
    previous_key: str | None = None
    body: bytes = BODY
    sent_body: bytes | None = None
    seconds_ago: int = 0
    message_id: str = ""
    test: bool = False

    async def status_at(self, url: str) -> int | None:
        normal = normalise_url(url, LOCAL)
        headers = signature_headers(
            method="POST",
            host=normal.host,
            path=normal.path,
            body=self.body,
            timestamp=int(time.time()) - self.seconds_ago,
            request_id=str(uuid.uuid4()),
            message_id=self.message_id or str(uuid.uuid4()),
            secret=self.key,
            previous_secret=self.previous_key,
            version=1,
        )
        if self.test:
            headers.append((TEST_HEADER, "true"))
        async with local_sender() as sender:
            request = request_to(url, self.body if self.sent_body is None else self.sent_body, tuple(headers))
            return (await sender.send(request)).status_code


def stored(folder: Path) -> list[bytes]:
    inbox = folder / "inbox"
    if inbox.is_dir():
        return [path.read_bytes() for path in inbox.iterdir()]
    with sqlite3.connect(inbox) as database:
        return [row[0] for row in database.execute("SELECT body FROM inbox")]


@languages
async def test_the_receiver_of_the_page_takes_genuine_deliveries_once(language: str, tmp_path: Path) -> None:
    async with running_receiver(language, tmp_path) as url:
        first = Delivery(message_id=str(uuid.uuid4()))
        assert await first.status_at(url) == 204
        assert await first.status_at(url) == 204, "a repeat is a success"
        assert await Delivery(test=True).status_at(url) == 204
        assert stored(tmp_path) == [BODY], "a test is answered and not stored"
        large = '{"text":"' + "ü漢😀" * 30_000 + '"}'
        assert await Delivery(body=large.encode()).status_at(url) == 204
        assert await Delivery(key=FOREIGN_KEY, previous_key=OLD_KEY).status_at(url) == 204, "during a rotation"
        assert await Delivery(key=OLD_KEY).status_at(url) == 204
        assert sorted(map(len, stored(tmp_path))) == sorted(map(len, [BODY, large.encode(), BODY, BODY]))


@languages
async def test_the_receiver_of_the_page_refuses_everything_else(language: str, tmp_path: Path) -> None:
    async with running_receiver(language, tmp_path) as url:
        genuine = Delivery()
        assert await genuine.status_at(url) == 204
        for forged in (
            replace(genuine, sent_body=BODY.replace(b"10.10", b"10.1")),
            replace(genuine, sent_body=b""),
            replace(genuine, key=FOREIGN_KEY),
            replace(genuine, seconds_ago=310),
            replace(genuine, seconds_ago=-310),
        ):
            assert await forged.status_at(url) == 401, forged
        async with local_sender() as sender:
            assert (await sender.send(request_to(url, BODY))).status_code == 401, "unsigned"
        assert stored(tmp_path) == [BODY]


DRIVERS = {
    "py": """
import json, sys
from platform_scheme import platform_signature_matches
print(json.dumps([platform_signature_matches(c["method"], c["host"], c["path"], c["headers"], c["body"].encode(),
                                             c["secret"]) for c in json.load(sys.stdin)]))
""",
    "mjs": """
import { readFileSync } from "node:fs";
import { platformSignatureMatches } from "./platform_scheme.mjs";
const cases = JSON.parse(readFileSync(0));
console.log(JSON.stringify(cases.map((c) =>
  platformSignatureMatches(c.method, c.host, c.path, c.headers, Buffer.from(c.body), c.secret))));
""",
    "php": """<?php
require 'platform_scheme.php';
$cases = json_decode(stream_get_contents(STDIN), true);
echo json_encode(array_map(fn ($c) => platform_signature_matches(
    $c['method'], $c['host'], $c['path'], $c['headers'], $c['body'], $c['secret']), $cases));
""",
}


def platform_cases() -> tuple[list[dict[str, Any]], list[bool]]:
    """The committed vectors, and each again with one of its parts changed."""
    cases: list[dict[str, Any]] = []
    genuine: list[bool] = []
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        case = vector | {"headers": {name.lower(): value for name, value in vector["headers"].items()}}
        signature = case["headers"]["x-webhook-signature"]
        changed = [case | {part: case[part] + "x"} for part in ("method", "host", "path", "body")]
        changed += [case | {"secret": FOREIGN_KEY}]
        changed += [
            case | {"headers": case["headers"] | {name: value}}
            for name, value in (
                ("x-webhook-timestamp", "1767323046"),
                ("x-webhook-request-id", str(uuid.UUID(int=0))),
                ("x-webhook-signature", signature[:-1] + ("0" if signature[-1] != "0" else "1")),
                ("x-webhook-signature", ""),
            )
        ]
        cases += [case, *changed]
        genuine += [True] + [False] * len(changed)
    return cases, genuine


@languages
def test_the_platform_check_of_the_page_agrees_with_the_committed_vectors(language: str, tmp_path: Path) -> None:
    interpreter = INTERPRETERS[language]()
    name = f"platform_scheme.{language}"
    (tmp_path / name).write_text(program(name))
    (tmp_path / f"driver.{language}").write_text(DRIVERS[language])
    cases, genuine = platform_cases()
    done = subprocess.run(
        [interpreter, f"driver.{language}"],
        cwd=tmp_path,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == genuine


def signed_now() -> tuple[dict[str, str], str]:
    body = BODY.decode()
    headers = signature_headers(
        method="POST",
        host="example.com",
        path="/",
        body=body.encode(),
        timestamp=int(time.time()),
        request_id="r",
        message_id="m",
        secret=NEW_KEY,
        previous_secret=None,
        version=1,
    )
    return {name.lower(): value for name, value in headers}, body


def test_the_python_library_check_of_the_page_runs(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(program("library.py"))
    headers, body = signed_now()
    script = "import json, sys; from library import verified; print(verified(*json.load(sys.stdin))['eventName'])"
    for key, expected in ((NEW_KEY, "CustomerUpdated\n"), (FOREIGN_KEY, "")):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            input=json.dumps([body, headers, key]),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == expected, done.stderr
        assert ("WebhookVerificationError" in done.stderr) == (key is FOREIGN_KEY)


def test_the_node_library_check_of_the_page_runs(tmp_path: Path) -> None:
    interpreter = node()
    (tmp_path / "node_modules").symlink_to(node_modules())
    (tmp_path / "library.mjs").write_text(program("library.mjs"))
    (tmp_path / "driver.mjs").write_text(
        'import { readFileSync } from "node:fs";\nimport { verified } from "./library.mjs";\n'
        "console.log(verified(...JSON.parse(readFileSync(0))).eventName);\n"
    )
    headers, body = signed_now()
    for key, expected in ((NEW_KEY, "CustomerUpdated\n"), (FOREIGN_KEY, "")):
        done = subprocess.run(
            [interpreter, "driver.mjs"],
            cwd=tmp_path,
            input=json.dumps([body, headers, key]),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == expected, done.stderr
        assert ("WebhookVerificationError" in done.stderr) == (key is FOREIGN_KEY)
