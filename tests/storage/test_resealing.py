"""Resealing finds everything that is sealed, changes nothing else, and takes turns with whoever writes meanwhile."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from cryptography.fernet import Fernet

import storage.operations.reencryption
from storage.database import Database
from storage.operations.reencryption import PREFIX, Resealing, sealed_columns
from storage.sealing import Sealer
from storage.subscriptions.queries import rotate_key, switch_signing_on
from tests.ground import STORE, Ground

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))
BEFORE = Sealer([OLD])
AFTER = Sealer([NEW, OLD])
NEW_ALONE = Sealer([NEW])

DIGESTS = {
    "api_key.key_sha256",
    "attempt.body_sha256",
    "event.digest",
    "expiry_import.file_sha256",
    "idempotency_key.digest",
    "panel_session.token_sha256",
    "refresh_token.token_sha256",
}
"""Columns of bytes that nothing can be read out of. Another one that is sealed begins with `sealed_`."""


@pytest.fixture
async def sealed(ground: Ground) -> Ground:
    """One value in each column, sealed with the old key: the text is the column's name."""
    await ground.execute("TRUNCATE issued_coupon, draft_test")
    names = ("sealed_headers", "sealed_authentication", "sealed_secret", "sealed_previous_secret")
    await ground.subscribe(
        "CustomerUpdated", "https://receiver.example.com/", **{name: BEFORE.seal(name) for name in names}
    )
    await ground.subscribe("CustomerUpdated", "https://receiver.example.com/")
    await ground.execute(
        "INSERT INTO store_operator (store_code, url, sealed_secret, sealed_previous_secret) "
        "VALUES (:store, 'https://operator.example.com/', :secret, :previous)",
        store=STORE,
        secret=BEFORE.seal("sealed_secret"),
        previous=BEFORE.seal("sealed_previous_secret"),
    )
    await ground.execute(
        "INSERT INTO draft_test (id, store_code, event_name, url, legacy, signature_version, sealed_headers, "
        "sealed_authentication, sealed_secret) VALUES (:id, :store, 'CustomerUpdated', "
        "'https://receiver.example.com/', false, 1, :headers, :authentication, :secret)",
        id=uuid4(),
        store=STORE,
        headers=BEFORE.seal("sealed_headers"),
        authentication=BEFORE.seal("sealed_authentication"),
        secret=BEFORE.seal("sealed_secret"),
    )
    await ground.emit("CustomerUpdated", "{}", sealed_data=BEFORE.seal("sealed_data"))
    await ground.emit("CustomerUpdated", "{}", count=3)
    await ground.execute(
        "INSERT INTO issued_coupon (store_code, issued_coupon_id, customer_id, sealed_code, status, used, updated_at) "
        "VALUES (:store, :id, :id, :sealed, 'active', false, now()), "
        "(:store, :other, :id, NULL, 'active', true, now())",
        store=STORE,
        id=uuid4(),
        other=uuid4(),
        sealed=BEFORE.seal("sealed_code"),
    )
    return ground


async def values(ground: Ground) -> dict[str, list[bytes]]:
    """Every sealed value, by column."""
    return {
        str(column): [
            row[0]
            for row in await ground.execute(
                f"SELECT {column.name} FROM {column.table} WHERE {column.name} IS NOT NULL ORDER BY 1"
            )
        ]
        for column in sealed_columns()
    }


async def test_every_column_of_bytes_is_sealed_or_a_digest(ground: Ground) -> None:
    rows = await ground.execute(
        "SELECT table_name || '.' || column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND data_type = 'bytea'"
    )
    found = {row[0] for row in rows}
    assert {name for name in found if name.partition(".")[2].startswith(PREFIX)} == {
        str(column) for column in sealed_columns()
    }
    assert {name for name in found if not name.partition(".")[2].startswith(PREFIX)} == DIGESTS


async def test_a_signing_key_is_gone_over_before_the_one_before_it() -> None:
    names = [column.name for column in sealed_columns() if column.table == "subscription"]
    assert names.index("sealed_secret") < names.index("sealed_previous_secret")


async def test_everything_opens_with_the_new_key_alone_and_says_the_same(sealed: Ground) -> None:
    report = await Resealing(sealed.database, AFTER).run()
    assert report.first_key_opens_all
    assert {str(count.column): (count.current, count.other, count.resealed) for count in report.counts} == {
        str(column): (0, 1, 1) for column in sealed_columns()
    }
    for column, [value] in (await values(sealed)).items():
        assert NEW_ALONE.open(value) == column.partition(".")[2]


async def test_nothing_else_of_a_row_is_touched(sealed: Ground) -> None:
    query = "SELECT to_jsonb(s) - CAST(:sealed AS text[]) FROM subscription s ORDER BY id"
    names = ["sealed_headers", "sealed_authentication", "sealed_secret", "sealed_previous_secret"]
    before = await sealed.execute(query, sealed=names)
    await Resealing(sealed.database, AFTER).run()
    assert await sealed.execute(query, sealed=names) == before


async def test_a_second_run_finds_nothing_to_do(sealed: Ground) -> None:
    await Resealing(sealed.database, AFTER).run()
    before = await values(sealed)
    report = await Resealing(sealed.database, AFTER).run()
    assert (report.total("current"), report.total("other"), report.total("resealed")) == (len(before), 0, 0)
    assert await values(sealed) == before


async def test_counting_changes_nothing(sealed: Ground) -> None:
    before = await values(sealed)
    report = await Resealing(sealed.database, AFTER).count()
    assert (report.total("current"), report.total("other"), report.total("resealed")) == (0, len(before), 0)
    assert not report.first_key_opens_all
    assert await values(sealed) == before


async def test_what_no_key_opens_is_named_and_holds_up_nothing_else(sealed: Ground) -> None:
    [stranger] = await sealed.emit("CustomerUpdated", "{}", sealed_data=Sealer([LOST]).seal("lost"))
    report = await Resealing(sealed.database, AFTER).run()
    assert not report.first_key_opens_all
    [broken] = [count for count in report.counts if count.unopenable]
    assert (str(broken.column), broken.examples) == (
        "event_body.sealed_data",
        f"{datetime.now(UTC).date()}:{STORE}:{stranger}",
    )
    assert report.total("resealed") == len(sealed_columns())
    again = await Resealing(sealed.database, Sealer([NEW, OLD, LOST])).run()
    assert (again.first_key_opens_all, again.total("resealed")) == (True, 1)


async def test_pages_and_steps_leave_nothing_out(sealed: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.operations.reencryption, "PAGE_ROWS", 7)
    monkeypatch.setattr(storage.operations.reencryption, "STEP_BYTES", 500)
    for size in (1, 400, 3_000):
        await sealed.emit("CustomerUpdated", "{}", count=10, sealed_data=BEFORE.seal("x" * size))
        await sealed.emit("CustomerUpdated", "{}", count=5)
    looked_at: list[int] = []
    report = await Resealing(sealed.database, AFTER, on_step=looked_at.append, step_rows=3).run()
    assert report.first_key_opens_all
    assert report.total("resealed") == len(sealed_columns()) + 30
    assert sum(looked_at) == 2 * report.total("resealed")  # the second pass finds nothing to do
    assert max(looked_at) <= 3
    assert all(NEW_ALONE.is_current(value) for of_column in (await values(sealed)).values() for value in of_column)


async def test_a_locked_row_is_not_waited_for_and_comes_later(sealed: Ground) -> None:
    looked: list[int] = []
    freed = asyncio.Event()

    def on_pass(number: int, _: int) -> None:
        looked.append(number)
        if number == 2:
            freed.set()

    async with sealed.database.transaction() as locking:
        await locking.exec_driver_sql("SELECT FROM event_body FOR UPDATE")
        running = asyncio.create_task(Resealing(sealed.database, AFTER, on_pass=on_pass).run())
        await asyncio.wait_for(freed.wait(), 60)
    report = await running
    assert (report.first_key_opens_all, report.total("late"), report.total("left")) == (True, 0, 0)
    assert looked[:2] == [1, 2]
    assert report.total("resealed") == len(sealed_columns())


async def test_a_row_that_stays_locked_is_said_to_be_left(sealed: Ground) -> None:
    async with sealed.database.transaction() as locking:
        await locking.exec_driver_sql("SELECT FROM event_body FOR UPDATE")
        report = await asyncio.wait_for(Resealing(sealed.database, AFTER).run(), 60)
    assert (report.first_key_opens_all, report.total("left")) == (False, 1)


async def test_a_value_written_between_reading_and_swapping_is_kept(sealed: Ground) -> None:
    """The same step, held up by the test between its two statements."""
    [column] = [column for column in sealed_columns() if str(column) == "event_body.sealed_data"]
    [[day, store, event_id, before]] = await sealed.execute(
        "SELECT accepted_on, store_code, event_id, sealed_data FROM event_body WHERE sealed_data IS NOT NULL"
    )
    newer = BEFORE.seal("newer")
    await sealed.execute("UPDATE event_body SET sealed_data = :newer WHERE event_id = :id", newer=newer, id=event_id)
    keys = column.keys([(day, store, event_id)])
    async with sealed.database.transaction() as connection:
        swapped = await connection.execute(column.swap, {**keys, "before": [before], "later": [AFTER.reseal(before)]})
        assert swapped.all() == []
    assert (await values(sealed))["event_body.sealed_data"] == [newer]


async def test_rotations_of_signing_keys_meanwhile_are_all_kept(sealed: Ground, cleared_url: str) -> None:
    """A writer with the new key first rotates keys as fast as it can; in the end each is the last it wrote."""
    subscriptions = [await sealed.subscribe("CustomerUpdated", "https://receiver.example.com/") for _ in range(5)]
    latest: dict[UUID, tuple[str, str]] = {}
    written = 0
    for subscription_id in subscriptions:
        async with sealed.database.transaction() as connection:
            secret, _ = await switch_signing_on(connection, subscription_id, BEFORE)
        latest[subscription_id] = (secret, "")
    writing = Database(cleared_url, pool_size=1)
    done = asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not done.is_set() or written < 20:
            subscription_id = subscriptions[written % len(subscriptions)]
            async with writing.transaction() as connection:
                secret, _ = await rotate_key(connection, subscription_id, AFTER)
            latest[subscription_id] = (secret, latest[subscription_id][0])
            written += 1

    writer = asyncio.create_task(write())
    reports = [await Resealing(sealed.database, AFTER, step_rows=1).run() for _ in range(3)]
    done.set()
    await writer
    await writing.close()
    assert [report.total("late") for report in reports] == [0, 0, 0]
    rows = await sealed.execute(
        "SELECT id, sealed_secret, sealed_previous_secret FROM subscription WHERE id = ANY(:ids)", ids=subscriptions
    )
    assert {
        row.id: (NEW_ALONE.open(row.sealed_secret), NEW_ALONE.open(row.sealed_previous_secret)) for row in rows
    } == latest


async def test_a_rotation_under_way_during_a_pass_is_no_process_with_an_old_key(
    sealed: Ground, cleared_url: str
) -> None:
    """It copies the value that the pass left to a column that the pass had seen empty."""
    subscription_id = await sealed.subscribe("CustomerUpdated", "https://receiver.example.com/")
    async with sealed.database.transaction() as connection:
        await switch_signing_on(connection, subscription_id, BEFORE)
    freed = asyncio.Event()
    rotating = Database(cleared_url, pool_size=1)
    async with rotating.transaction() as connection:
        await rotate_key(connection, subscription_id, AFTER)
        run = Resealing(sealed.database, AFTER, on_pass=lambda number, _: freed.set() if number == 2 else None).run()
        running = asyncio.create_task(run)
        await asyncio.wait_for(freed.wait(), 60)
    report = await running
    await rotating.close()
    assert (report.first_key_opens_all, report.total("late")) == (True, 0)


async def test_a_process_that_still_seals_with_the_old_key_is_told_of(sealed: Ground, cleared_url: str) -> None:
    async def update_with_old_key() -> None:
        connection = await asyncpg.connect(cleared_url)
        await connection.execute(
            "UPDATE issued_coupon SET sealed_code = $1 WHERE sealed_code IS NOT NULL", BEFORE.seal("stale")
        )
        await connection.close()

    def on_pass(number: int, _: int) -> None:
        if number == 2:
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(asyncio.run, update_with_old_key()).result(10)

    report = await Resealing(sealed.database, AFTER, on_pass=on_pass).run()
    assert (report.total("late"), report.first_key_opens_all) == (1, False)
    assert [NEW_ALONE.open(value) for value in (await values(sealed))["issued_coupon.sealed_code"]] == ["stale"]
