"""`api`, as a process, keeps the bounds on connections and heads that the tests of the protocol try one by one."""

from contextlib import closing
from pathlib import Path

from cryptography.fernet import Fernet

from local.ports import hold_free
from tests.api.test_connections import ALIVE, NOWHERE, TOO_LARGE, head_of, peer
from tests.commands.running import start
from tests.deadlines import eventually

MOST = 2


async def test_it_refuses_large_heads_and_connections_above_the_limit(tmp_path: Path) -> None:
    with closing(hold_free()) as held:
        port: int = held.getsockname()[1]
    environment = {
        "DATABASE_URL": NOWHERE,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "JWT_SECRETS": "j" * 40,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "API_PORT": str(port),
        "CONNECTION_LIMIT": str(MOST),
    }
    root = f"http://127.0.0.1:{port}"
    process = await start("api", directory=tmp_path, environment=environment)

    async def status_of(head: bytes) -> int | None:
        try:
            async with peer(root) as client:
                await client.send(head)
                return (await client.answer())[0]
        except ConnectionRefusedError:
            return None

    async def answers() -> bool:
        return await status_of(ALIVE + b"\r\n") == 200

    try:
        await eventually(answers, 60, "the API answers")
        for name, (_, size, status) in TOO_LARGE.items():
            assert await status_of(head_of(**size)) == status, name
        async with peer(root) as first, peer(root) as second:
            for client in (first, second):
                await client.send(ALIVE + b"\r\n")
                assert (await client.answer())[0] == 200
            assert await status_of(ALIVE + b"\r\n") == 503
    finally:
        process.terminate()
        await process.communicate()
