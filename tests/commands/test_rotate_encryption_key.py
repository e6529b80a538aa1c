"""`rotate-encryption-key` seals everything with the first key, resumes after a kill, and says when old keys may go."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from standardwebhooks import Webhook

from domain.wire.headers import OwnHeader
from domain.wire.signing import format_secret
from storage.sealing import Sealer
from storage.subscriptions.queries import seal_headers
from tests.commands.running import Ended, halting, run, start
from tests.deadlines import eventually
from tests.ground import Ground
from tests.receiver import Receiver
from tests.workbench import workbench

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))
MAY_GO = "the other keys of ENCRYPTION_KEYS may be removed"
MANY = 3_000  # more than before it halts


class Rotation:
    """The command over a database of its own."""

    def __init__(self, ground: Ground, url: str, directory: Path) -> None:
        self.ground = ground
        self.directory = directory
        self.url = url

    def environment(self, *keys: str) -> dict[str, str]:
        return {"DATABASE_URL": self.url, "ENCRYPTION_KEYS": ",".join(keys)}

    async def run(self, *arguments: str, keys: tuple[str, ...] = (NEW, OLD)) -> Ended:
        return await run(
            "rotate-encryption-key", *arguments, directory=self.directory, environment=self.environment(*keys)
        )

    async def sealed_with_other(self, key: str = NEW) -> int:
        """Values that this key does not open."""
        rows = await self.ground.execute("SELECT sealed_data FROM event_body WHERE sealed_data IS NOT NULL")
        return sum(not Sealer([key]).is_current(row[0]) for row in rows)

    async def audit(self) -> list[tuple[str, dict[str, object]]]:
        rows = await self.ground.execute("SELECT actor, object_id, changes FROM audit ORDER BY id")
        assert all(row.actor.startswith("cli:") and NEW not in row.object_id for row in rows)
        return [(row.object_id, row.changes) for row in rows]


@pytest.fixture
async def rotation(ground: Ground, cleared_url: str, tmp_path: Path) -> Rotation:
    await ground.execute("TRUNCATE audit")
    return Rotation(ground, cleared_url, tmp_path)


async def test_the_old_key_may_go_when_everything_is_sealed_with_the_new_one(rotation: Rotation) -> None:
    await rotation.ground.emit("CustomerUpdated", "{}", count=3, sealed_data=Sealer([OLD]).seal("secret"))
    ended = await rotation.run()
    assert ended.code == 0, ended.errors
    assert ["event_body.sealed_data", "0", "3", "3", "0"] in [line.split() for line in ended.output.splitlines()]
    assert MAY_GO in ended.output
    assert await rotation.sealed_with_other() == 0
    [(key, begun), (same, finished)] = await rotation.audit()
    assert key == same
    assert begun == {"moment": "begin"}
    assert finished == {"moment": "end", "resealed": {"event_body.sealed_data": 3}, "complete": True}
    alone = await rotation.run(keys=(NEW,))
    assert (alone.code, "There is no other key" in alone.output) == (0, True)


async def test_a_dry_run_counts_and_does_nothing(rotation: Rotation) -> None:
    await rotation.ground.emit("CustomerUpdated", "{}", count=3, sealed_data=Sealer([OLD]).seal("secret"))
    await rotation.ground.emit("CustomerUpdated", "{}", count=2, sealed_data=Sealer([NEW]).seal("secret"))
    ended = await rotation.run("--dry-run")
    assert ended.code == 1
    assert ["event_body.sealed_data", "2", "3", "3", "0"] in [line.split() for line in ended.output.splitlines()]
    assert "Encrypted with a key other than the first: 3 values" in ended.output
    assert await rotation.sealed_with_other() == 3
    assert await rotation.audit() == []
    await rotation.run()
    after = await rotation.run("--dry-run")
    assert (after.code, MAY_GO in after.output) == (0, True)


async def test_killed_in_the_middle_it_is_finished_by_the_next_run(rotation: Rotation) -> None:
    original = Sealer([OLD]).seal("secret")
    await rotation.ground.emit("CustomerUpdated", "{}", count=MANY, sealed_data=original)

    async def done() -> int:
        count = await rotation.ground.scalar("SELECT count(*) FROM event_body WHERE sealed_data <> :old", old=original)
        return int(count)

    async def under_way() -> bool:
        return await done() >= 500

    async with halting(rotation.url, "event_body", after=1_000):
        process = await start(
            "rotate-encryption-key", directory=rotation.directory, environment=rotation.environment(NEW, OLD)
        )
        try:
            await eventually(under_way, 60, "the first values are sealed anew")
        finally:
            process.kill()
            await process.wait()
    halfway = await done()
    assert 500 <= halfway < MANY
    both = Sealer([NEW, OLD])
    rows = await rotation.ground.execute("SELECT DISTINCT sealed_data FROM event_body")
    assert {both.open(row[0]) for row in rows} == {"secret"}
    ended = await rotation.run()
    assert ended.code == 0, ended.errors
    left = MANY - halfway
    assert ["event_body.sealed_data", f"{halfway:,}", f"{left:,}", f"{left:,}", "0"] in [
        line.split() for line in ended.output.splitlines()
    ]
    assert await rotation.sealed_with_other() == 0


async def test_what_no_key_opens_keeps_every_key(rotation: Rotation) -> None:
    [event_id] = await rotation.ground.emit("CustomerUpdated", "{}", sealed_data=Sealer([LOST]).seal("secret"))
    for arguments in ((), ("--dry-run",)):
        ended = await rotation.run(*arguments)
        assert ended.code == 1
        assert (
            f"no key of ENCRYPTION_KEYS decrypts 1 value: {datetime.now(UTC).date()}:default:{event_id}" in ended.errors
        )
        assert "Keep every key" in ended.output
        assert OLD not in ended.errors + ended.output


async def test_without_a_database_it_says_so(rotation: Rotation) -> None:
    environment = {"DATABASE_URL": "postgresql://x:hidden@127.0.0.1:9/none", "ENCRYPTION_KEYS": NEW}
    ended = await run("rotate-encryption-key", directory=rotation.directory, environment=environment)
    assert (ended.code, "cannot be reached" in ended.errors) == (1, True)
    assert "hidden" not in ended.errors


async def test_deliveries_go_on_with_their_secrets_during_and_after(rotation: Rotation, cleared_url: str) -> None:
    """The three stages of the procedure: both keys before, both keys after, the new one alone."""
    signing_key = format_secret(b"k" * 32)
    old = Sealer([OLD])
    own_headers = seal_headers([OwnHeader("Authorization", "Bearer s3cret")], old)
    data = '{"code":"s3cret-code"}'
    async with Receiver() as receiver:
        await rotation.ground.subscribe(
            "CustomerRequestedPasswordReset",
            receiver.url("/hook"),
            sealed_headers=own_headers,
            hmac_enabled=True,
            sealed_secret=old.seal(signing_key),
            signature_version=1,
        )
        for keys in (f"{NEW},{OLD}", f"{NEW},{OLD}", NEW):
            async with workbench(cleared_url, encryption_keys=keys) as bench:
                ids = await bench.emit("CustomerRequestedPasswordReset", data, sealed_data=bench.sealer().seal(data))
                assert (await bench.attempt_events(ids)).delivered == 1
            assert (await rotation.run()).code == 0
    assert len(receiver.requests) == 3
    for received in receiver.requests:
        assert received.header("Authorization") == "Bearer s3cret"
        assert b"s3cret-code" in received.body
        Webhook(signing_key).verify(received.body, received.header_dict())
