"""First contents of a fresh database: the stack's store, administrator and API key."""

from domain.access import Scope
from local.secrets_file import Secrets
from storage.access.queries import ensure_administrator, ensure_api_key
from storage.database import Database
from storage.operations.stores import ensure_store

STORE = "default"
KEY_NAME = "up"


async def ensure_access(address: str, secrets: Secrets) -> None:
    """Create the store, the administrator and the API key of the secrets if they are missing. Existing ones stay.

    `address` is the postgresql:// address of the database.
    """
    url = address.replace("postgresql://", "postgresql+asyncpg://", 1)
    database = Database(url, pool_size=1, name="loyalty-webhooks up")
    admin = secrets.admin
    try:
        async with database.transaction() as connection:
            await ensure_store(connection, STORE, "Default")
            await ensure_administrator(connection, admin.username, admin.password)
            await ensure_api_key(connection, KEY_NAME, secrets.api_key, (Scope.ADMIN,))
    finally:
        await database.close()
