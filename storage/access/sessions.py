"""Sessions of the admin panel: rows, so that they outlive the API's processes and end the moment somebody logs out."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.access.queries import ADMINISTRATOR_COLUMNS, AdministratorRow, administrator_of, digest

IDLE_HOURS = 2  # a desk somebody has left
LONGEST_HOURS = 12  # a working day

_DROP_EXPIRED = text("""
DELETE FROM panel_session
WHERE expires_at < clock_timestamp() OR used_at < clock_timestamp() - make_interval(hours => :idle_hours)
""")
_BEGIN = text("""
INSERT INTO panel_session (token_sha256, administrator_id, password_version, expires_at)
VALUES (:digest, :administrator_id, :password_version, clock_timestamp() + make_interval(hours => :hours))
""")
_FIND = text(f"""
SELECT session.notice, session.used_at < clock_timestamp() - interval '1 minute', {ADMINISTRATOR_COLUMNS}
FROM panel_session AS session JOIN administrator ON administrator.id = session.administrator_id
WHERE session.token_sha256 = :digest AND session.expires_at > clock_timestamp() AND administrator.active
    AND session.used_at > clock_timestamp() - make_interval(hours => :idle_hours)
    AND session.password_version = (extract(epoch FROM administrator.password_changed_at) * 1000000)::bigint
""")
_USED = text("UPDATE panel_session SET used_at = clock_timestamp() WHERE token_sha256 = :digest")
_SAY = text("UPDATE panel_session SET notice = cast(:notice AS jsonb) WHERE token_sha256 = :digest")
_END = text("DELETE FROM panel_session WHERE token_sha256 = :digest")

_END_OF = text("DELETE FROM panel_session WHERE administrator_id = :id")


@dataclass(frozen=True, slots=True)
class SessionRow:
    """Who is logged in, and what the next page has to say (kind and text)."""

    administrator: AdministratorRow
    notice: Mapping[str, str] | None


async def begin_session(connection: AsyncConnection, token: str, administrator: AdministratorRow) -> None:
    """Keep the hash of a new session's token, and drop all sessions that are over."""
    await connection.execute(_DROP_EXPIRED, {"idle_hours": IDLE_HOURS})
    parameters = {
        "digest": digest(token),
        "administrator_id": administrator.id,
        "password_version": administrator.password_version,
        "hours": LONGEST_HOURS,
    }
    await connection.execute(_BEGIN, parameters)


async def find_session(connection: AsyncConnection, token: str, *, used: bool = True) -> SessionRow | None:
    """The session, or None when it is over. Notes its use, to the minute, unless nobody did something: a page that
    asks what is new keeps no session alive."""
    row = (await connection.execute(_FIND, {"digest": digest(token), "idle_hours": IDLE_HOURS})).one_or_none()
    if row is None:
        return None
    notice, stale, *administrator = row
    if stale and used:
        await connection.execute(_USED, {"digest": digest(token)})
    return SessionRow(administrator_of(administrator), notice)


async def say_next(connection: AsyncConnection, token: str, notice: Mapping[str, str] | None) -> None:
    """What the session's next page says; None once it has been said."""
    value = None if notice is None else orjson.dumps(notice).decode()
    await connection.execute(_SAY, {"digest": digest(token), "notice": value})


async def end_session(connection: AsyncConnection, token: str) -> None:
    """Log out."""
    await connection.execute(_END, {"digest": digest(token)})


async def end_sessions_of(connection: AsyncConnection, administrator_id: UUID) -> None:
    """Log somebody out everywhere, for good."""
    await connection.execute(_END_OF, {"id": administrator_id})
