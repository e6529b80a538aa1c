"""Keys and tokens: what lets one in, for how long, and what each refusal says."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from pwdlib.hashers.argon2 import Argon2Hasher

from api.login.principals import Tokens
from domain.access import Scope
from storage.access.administration import end_key, replace_password
from storage.access.passwords import Passwords
from storage.access.queries import (
    create_administrator,
    digest,
    find_administrator,
    store_refresh_token,
    use_refresh_token,
)
from storage.access.tables import Administrator
from tests.api.installation import JWT_SECRET, Installation, Shop, installation
from tests.api.serving import serving
from tests.databases import blocks_another
from tests.deadlines import eventually

PASSWORD = "correct horse battery staple"
EXPIRED = (401, {"code": 401, "message": "Expired JWT Token"})
INVALID = (401, {"code": 401, "message": "Invalid JWT Token"})
REQUIRED = (401, {"message": "Authentication Required"})
REFUSED = (401, {"code": 401, "message": "Invalid credentials."})


async def administrator(installed: Installation, *scopes: Scope, stores: tuple[str, ...] = ("*",)) -> str:
    """The user name of a new administrator, whose password is PASSWORD."""
    username = f"admin-{uuid4().hex}"
    hashed = await Passwords().hash(PASSWORD)
    async with installed.database.transaction() as connection:
        await create_administrator(connection, username, hashed, scopes or (Scope.ADMIN,), stores)
    return username


async def log_in(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/admin/login_check", json={"username": username, "password": password})


async def bearer(installed: Installation, token: str) -> httpx.AsyncClient:
    return await installed.caller({"Authorization": f"Bearer {token}"})


async def enter(client: httpx.AsyncClient, shop: Shop) -> tuple[int, Any]:
    response = await client.get(shop.path())
    return response.status_code, response.json()


async def token_for(installed: Installation, username: str, **changes: Any) -> str:
    """A token of the account, as the API would issue it but for the changed claims."""
    async with installed.database.transaction() as connection:
        found = await find_administrator(connection, username=username)
    assert found is not None
    now = datetime.now(UTC)
    claims = {"sub": str(found.id), "pwd": found.password_version, "iat": now, "exp": now + timedelta(hours=1)}
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


async def test_a_password_gives_a_pair_of_tokens_that_lets_one_in(installed: Installation, shop: Shop) -> None:
    username = await administrator(installed)
    response = await log_in(await installed.caller(), username)
    assert response.status_code == 200
    assert set(response.json()) == {"token", "refresh_token"}
    assert (await enter(await bearer(installed, response.json()["token"]), shop))[0] == 200
    async with installed.database.transaction() as connection:
        found = await find_administrator(connection, username=username)
    assert found is not None
    assert found.last_login_at is not None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "a"},
        {"username": "a", "password": None},
        {"username": 1, "password": "b"},
        {"username": "a", "password": "b", "more": 1},
        {"username": "a" * 1025, "password": "b"},
        [],
    ],
)
async def test_a_log_in_that_is_none_is_a_400(installed: Installation, body: Any) -> None:
    response = await (await installed.caller()).post("/api/admin/login_check", json=body)
    assert response.status_code == 400
    assert response.json()["errors"]


async def test_wrong_credentials_are_a_401_that_does_not_say_which(installed: Installation) -> None:
    client = await installed.caller(address="203.0.113.1")
    username = await administrator(installed)
    wrong = await log_in(client, username, "wrong")
    unknown = await log_in(client, f"nobody-{uuid4()}", "wrong")
    assert (wrong.status_code, wrong.json()) == REFUSED
    assert (unknown.status_code, unknown.json()) == REFUSED
    assert wrong.headers["WWW-Authenticate"] == "Bearer"


@pytest.fixture
def passwords(monkeypatch: pytest.MonkeyPatch) -> Passwords:
    """At the cost of an installation, in place of that of the tests."""
    monkeypatch.setattr("storage.access.passwords.Argon2Hasher", Argon2Hasher)
    return Passwords()


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    await passwords.verify("warm up", None)
    taken: dict[str | None, list[float]] = {stored: [], None: []}
    for _ in range(3):
        for hashed, times in taken.items():
            began = time.process_time()
            assert await passwords.verify("wrong", hashed) == (False, None)
            times.append(time.process_time() - began)
    wrong, unknown = (sorted(times)[1] for times in taken.values())
    assert 1 / 3 < wrong / unknown < 3


async def test_the_event_loop_runs_on_while_a_password_is_checked(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    checking = asyncio.create_task(passwords.verify(PASSWORD, stored))
    turns = 0
    while not checking.done():
        await asyncio.sleep(0)
        turns += 1
    assert await checking == (True, None)
    assert turns > 10


async def test_a_refresh_token_works_once_and_its_reuse_ends_the_family(installed: Installation, shop: Shop) -> None:
    client = await installed.caller()
    first = (await log_in(client, await administrator(installed))).json()["refresh_token"]

    async def refresh(token: str) -> httpx.Response:
        return await client.post("/api/token/refresh", json={"refresh_token": token})

    second = await refresh(first)
    assert second.status_code == 200
    assert (await enter(await bearer(installed, second.json()["token"]), shop))[0] == 200
    third = await refresh(second.json()["refresh_token"])
    assert third.status_code == 200
    reused = await refresh(first)
    assert (reused.status_code, reused.json()) == INVALID
    ended = await refresh(third.json()["refresh_token"])
    assert (ended.status_code, ended.json()) == INVALID


async def test_the_reuse_of_a_refresh_token_ends_the_access_tokens_of_the_log_in_and_no_others(
    installed: Installation, shop: Shop
) -> None:
    username = await administrator(installed)
    async with serving(installed.app) as root, httpx.AsyncClient(base_url=root, timeout=30) as client:
        pairs = [(await log_in(client, username)).json() for _ in range(2)]
        renewed = await client.post("/api/token/refresh", json={"refresh_token": pairs[0]["refresh_token"]})

        async def status(token: str) -> int:
            return (await client.get(shop.path(), headers={"Authorization": f"Bearer {token}"})).status_code

        tokens = [pairs[0]["token"], renewed.json()["token"]]
        assert [await status(token) for token in tokens] == [200, 200]
        await client.post("/api/token/refresh", json={"refresh_token": pairs[0]["refresh_token"]})

        async def ended() -> bool:
            return [await status(token) for token in tokens] == [401, 401]

        await eventually(ended, 10, "both access tokens of the log-in have ended")
        assert await status(pairs[1]["token"]) == 200


@pytest.mark.parametrize("ended_by", ["reuse", "password"])
async def test_a_refresh_in_progress_does_not_survive_what_ends_its_log_in(
    installed: Installation, ended_by: str
) -> None:
    client, username = await installed.caller(), await administrator(installed)
    tokens = [(await log_in(client, username)).json()["refresh_token"]]
    tokens += [(await client.post("/api/token/refresh", json={"refresh_token": tokens[0]})).json()["refresh_token"]]
    tokens += [uuid4().hex]

    async def end() -> None:
        if ended_by == "reuse":
            await client.post("/api/token/refresh", json={"refresh_token": tokens[0]})
            return
        async with installed.database.transaction() as connection:
            await replace_password(connection, "test", username, "another")

    async with installed.database.transaction() as connection:
        used = await use_refresh_token(connection, tokens[1])
        assert used is not None
        ending = asyncio.create_task(end())
        await eventually(partial(blocks_another, connection), 10, "the revocation waits for the refresh")
        await store_refresh_token(connection, tokens[2], *used, days=1)
    await ending
    assert (await client.post("/api/token/refresh", json={"refresh_token": tokens[2]})).status_code == 401


async def test_a_log_in_in_progress_does_not_survive_a_new_password(installed: Installation) -> None:
    client, username = await installed.caller(), await administrator(installed)
    async with installed.database.transaction() as connection:
        await replace_password(connection, "test", username, await Passwords().hash("another password"))
        logging_in = asyncio.create_task(log_in(client, username))
        await eventually(partial(blocks_another, connection), 10, "the log-in waits for the new password")
    assert ((await logging_in).status_code, (await logging_in).json()) == REFUSED


async def test_one_family_ending_leaves_the_others(installed: Installation) -> None:
    client = await installed.caller()
    username = await administrator(installed)
    first, other = [(await log_in(client, username)).json()["refresh_token"] for _ in range(2)]
    for _ in range(2):
        await client.post("/api/token/refresh", json={"refresh_token": first})
    assert (await client.post("/api/token/refresh", json={"refresh_token": other})).status_code == 200


async def test_of_many_who_refresh_at_once_one_succeeds(installed: Installation) -> None:
    client = await installed.caller()
    token = (await log_in(client, await administrator(installed))).json()["refresh_token"]
    answers = await asyncio.gather(
        *(client.post("/api/token/refresh", json={"refresh_token": token}) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[401] * 5]


async def test_refresh_tokens_are_stored_hashed_and_expire(installed: Installation) -> None:
    client = await installed.caller()
    token = (await log_in(client, await administrator(installed))).json()["refresh_token"]
    rows = await installed.execute("SELECT token_sha256 FROM refresh_token")
    assert token.encode() not in [row["token_sha256"] for row in rows]
    await installed.execute("UPDATE refresh_token SET expires_at = clock_timestamp() - interval '1 second'")
    assert (await client.post("/api/token/refresh", json={"refresh_token": token})).status_code == 401


@pytest.mark.parametrize("body", [{}, {"refresh_token": None}, {"refreshToken": "x"}, {"refresh_token": ""}])
async def test_a_refresh_without_a_token_of_ours_gives_nothing(installed: Installation, body: Any) -> None:
    response = await (await installed.caller()).post("/api/token/refresh", json=body)
    assert response.status_code == (401 if body == {"refresh_token": ""} else 400)


async def test_an_expired_token_says_so_and_any_other_is_invalid(installed: Installation, shop: Shop) -> None:
    username = await administrator(installed)
    past = datetime.now(UTC) - timedelta(seconds=1)
    cases = {
        await token_for(installed, username, exp=past): EXPIRED,
        await token_for(installed, username, exp=None): INVALID,
        await token_for(installed, username, sub=None): INVALID,
        await token_for(installed, username, sub="nobody"): INVALID,
        await token_for(installed, username, sub=str(uuid4())): INVALID,
        await token_for(installed, username, pwd=1): INVALID,
        await token_for(installed, username, pwd="x"): INVALID,
        await token_for(installed, username, pwd=float("inf")): INVALID,
        await token_for(installed, username, nbf=datetime.now(UTC) + timedelta(hours=1)): INVALID,
        (await token_for(installed, username))[:-2]: INVALID,
        jwt.encode({"sub": str(uuid4()), "exp": past}, None, algorithm="none"): INVALID,
        "": INVALID,
        "a.b.c": INVALID,
        "x" * 100_000: INVALID,
    }
    for token, expected in cases.items():
        assert await enter(await bearer(installed, token), shop) == expected, token[:100]


async def test_an_expired_token_of_a_stranger_is_invalid_not_expired(installed: Installation, shop: Shop) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    forged = jwt.encode({"sub": str(uuid4()), "pwd": 1, "iat": past, "exp": past}, "f" * 40, algorithm="HS256")
    assert await enter(await bearer(installed, forged), shop) == INVALID


def test_secrets_are_replaced_one_by_one() -> None:
    old, new = "old-secret-" + "x" * 32, "new-secret-" + "y" * 32
    someone = Administrator(
        id=uuid4(), username="a", password_hash="", scopes=[], stores=[], password_changed_at=datetime.now(UTC)
    )
    claims = (someone.id, someone.password_version, digest("refresh"))
    before = Tokens([old], 60).issue(someone, "refresh")
    both = Tokens([new, old], 60)
    assert both.verify(before) == claims
    assert Tokens([new], 60).verify(both.issue(someone, "refresh")) == claims


def test_the_api_does_not_start_without_a_secret() -> None:
    with pytest.raises(ValueError, match="JWT_SECRETS"):
        Tokens([], 60)


async def test_a_new_password_ends_the_tokens_made_before(installed: Installation, shop: Shop) -> None:
    client = await installed.caller()
    username = await administrator(installed)
    pair = (await log_in(client, username)).json()
    inside = await bearer(installed, pair["token"])
    assert (await enter(inside, shop))[0] == 200
    async with installed.database.transaction() as connection:
        assert await replace_password(connection, "test", username, await Passwords().hash("another password"))

    async def out() -> bool:
        return await enter(inside, shop) == INVALID

    await eventually(out, 20, "the token of the old password is refused")
    refreshed = await client.post("/api/token/refresh", json={"refresh_token": pair["refresh_token"]})
    assert refreshed.status_code == 401
    assert (await log_in(client, username)).status_code == 401
    assert (await log_in(client, username, "another password")).status_code == 200


async def test_a_deactivated_administrator_is_out_and_cannot_come_back(installed: Installation, shop: Shop) -> None:
    client = await installed.caller()
    username = await administrator(installed)
    pair = (await log_in(client, username)).json()
    await installed.execute("UPDATE administrator SET active = false WHERE username = :name", name=username)
    inside = await bearer(installed, pair["token"])

    async def out() -> bool:
        return await enter(inside, shop) == INVALID

    await eventually(out, 20, "the token is refused")
    assert (await log_in(client, username)).status_code == 401
    assert (await client.post("/api/token/refresh", json={"refresh_token": pair["refresh_token"]})).status_code == 401


async def test_an_administrator_has_its_rights_in_its_stores_only(installed: Installation, shop: Shop) -> None:
    username = await administrator(installed, Scope.SUBSCRIPTION_READ, stores=(shop.store,))
    inside = await bearer(installed, (await log_in(await installed.caller(), username)).json()["token"])
    assert (await enter(inside, shop))[0] == 200
    assert (await shop.create(inside)).status_code == 403
    assert (await enter(inside, await installed.shop()))[0] == 404


async def test_a_revoked_key_is_out_within_a_second(installed: Installation, shop: Shop) -> None:
    caller = await installed.with_key(Scope.SUBSCRIPTION_READ)
    assert (await enter(caller, shop))[0] == 200
    key_id: UUID = (await installed.execute("SELECT id FROM api_key ORDER BY created_at DESC LIMIT 1"))[0]["id"]
    async with installed.database.transaction() as connection:
        assert await end_key(connection, "test", key_id) == "test"
    revoked = time.monotonic()

    async def out() -> bool:
        began = time.monotonic()
        refused = await enter(caller, shop) == REQUIRED
        assert refused or began - revoked < 1.0
        return refused

    await eventually(out, 20, "the revoked key is refused")


async def test_an_expired_key_is_refused(installed: Installation, shop: Shop) -> None:
    caller = await installed.with_key()
    await installed.execute(
        "UPDATE api_key SET expires_at = clock_timestamp() - interval '1 second' "
        "WHERE id = (SELECT id FROM api_key ORDER BY created_at DESC LIMIT 1)"
    )
    assert await enter(caller, shop) == REQUIRED


async def test_the_use_of_a_key_is_noted(installed: Installation, shop: Shop) -> None:
    caller = await installed.with_key()
    newest = "SELECT last_used_at FROM api_key ORDER BY created_at DESC LIMIT 1"
    assert (await installed.execute(newest))[0]["last_used_at"] is None
    await enter(caller, shop)
    assert (await installed.execute(newest))[0]["last_used_at"] is not None


@pytest.mark.parametrize("key", ["", " ", "ä", "x" * 10_000, "'; DROP TABLE api_key; --"])
async def test_a_key_that_is_none_is_refused(installed: Installation, shop: Shop, key: str) -> None:
    caller = await installed.caller()
    response = await caller.get(shop.path(), headers={"X-AUTH-TOKEN": key.encode()})
    assert (response.status_code, response.json()) == REQUIRED


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Token x", ""])
async def test_what_is_no_bearer_token_is_no_credential(installed: Installation, shop: Shop, value: str) -> None:
    response = await (await installed.caller({"Authorization": value})).get(shop.path())
    assert response.status_code == 401


async def test_a_token_goes_before_a_key(installed: Installation, shop: Shop) -> None:
    both = await installed.caller({"Authorization": "Bearer nonsense", "X-AUTH-TOKEN": installed.admin_key})
    assert await enter(both, shop) == INVALID
    basic = await installed.caller({"Authorization": "Basic YTpi", "X-AUTH-TOKEN": installed.admin_key})
    assert await enter(basic, shop) == REQUIRED


async def test_a_burst_of_calls_asks_the_database_for_its_key_once(installed: Installation, shop: Shop) -> None:
    caller = await installed.with_key()
    principals = installed.app.state.resources.principals
    asked = 0
    find = principals._find_key

    async def counted(key: str) -> Any:
        nonlocal asked
        asked += 1
        return await find(key)

    principals._find_key = counted
    try:
        began = time.monotonic()
        answers = await asyncio.gather(*(caller.get(shop.path()) for _ in range(40)))
        took = time.monotonic() - began
    finally:
        principals._find_key = find
    assert {answer.status_code for answer in answers} == {200}
    assert asked <= 1 + took  # a key is asked for again after a second


async def test_guessing_is_slowed_and_the_owner_elsewhere_is_not(shared_database: str) -> None:
    async with installation(shared_database) as installed:
        username = await administrator(installed)
        guesser = await installed.caller(address="198.51.100.1")
        answers = [await log_in(guesser, username, f"guess {number}") for number in range(8)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
        refused = answers[-1]
        assert 0 < int(refused.headers["Retry-After"]) <= 30
        assert refused.json()["code"] == 429
        assert (await log_in(guesser, username)).status_code == 429
        owner = await installed.caller(address="198.51.100.2")
        assert (await log_in(owner, username)).status_code == 200


async def test_many_guesses_at_once_do_not_slip_through(shared_database: str) -> None:
    async with installation(shared_database) as installed:
        username = await administrator(installed)
        guesser = await installed.caller(address="198.51.100.1")
        answers = await asyncio.gather(*(log_in(guesser, username, f"guess {number}") for number in range(12)))
        assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 7
