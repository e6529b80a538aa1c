"""Sessions of the admin panel: rows, so that they outlive the API's processes and end the moment a user logs out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from storage.access.queries import PASSWORD_VERSION, USE_RECORDED_EVERY, digest
from storage.access.tables import Administrator, PanelSession

IDLE_TIME = timedelta(hours=2)
"""Maximum time between two uses of a session. A longer pause means that the user has left the desk."""

LONGEST_TIME = timedelta(hours=12)
"""Maximum lifetime of a session: a working day."""

_NOW = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A logged-in administrator, and the notice for the next page (kind and text)."""

    administrator: Administrator
    notice: Mapping[str, str] | None


async def begin_session(connection: AsyncConnection, token: str, administrator: Administrator) -> None:
    """Store the hash of a new session's token, and delete all sessions that have ended."""
    ended = (col(PanelSession.expires_at) < _NOW) | (col(PanelSession.used_at) < _NOW - IDLE_TIME)
    await connection.execute(delete(PanelSession).where(ended))
    owner = {"administrator_id": administrator.id, "password_version": administrator.password_version}
    session = insert(PanelSession).values(token_sha256=digest(token), expires_at=_NOW + LONGEST_TIME, **owner)
    await connection.execute(session)


async def find_session(connection: AsyncConnection, token: str, *, used: bool = True) -> SessionRow | None:
    """Return the session, or None if it has ended. The time of use is recorded to the minute. `used` False: a polling
    page does not extend the session."""
    stale = (col(PanelSession.used_at) < _NOW - USE_RECORDED_EVERY).label("stale")
    query = (
        select(Administrator, col(PanelSession.notice), stale)
        .select_from(PanelSession)
        .join(Administrator, col(Administrator.id) == col(PanelSession.administrator_id))
        .where(
            _of(token),
            col(PanelSession.expires_at) > _NOW,
            col(PanelSession.used_at) > _NOW - IDLE_TIME,
            col(PanelSession.password_version) == PASSWORD_VERSION,
            col(Administrator.active),
        )
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    columns = row._asdict()
    notice, stale = columns.pop("notice"), columns.pop("stale")
    if stale and used:
        await connection.execute(update(PanelSession).where(_of(token)).values(used_at=_NOW))
    return SessionRow(Administrator(**columns), notice)


async def say_next(connection: AsyncConnection, token: str, notice: Mapping[str, str] | None) -> None:
    """Store the notice that the session's next page shows; None once it was shown."""
    value = None if notice is None else dict(notice)
    await connection.execute(update(PanelSession).where(_of(token)).values(notice=value))


async def end_session(connection: AsyncConnection, token: str) -> None:
    """Delete the session: log out."""
    await connection.execute(delete(PanelSession).where(_of(token)))


async def end_sessions_of(connection: AsyncConnection, administrator_id: UUID) -> None:
    await connection.execute(delete(PanelSession).where(col(PanelSession.administrator_id) == administrator_id))


def _of(token: str) -> ColumnElement[bool]:
    return col(PanelSession.token_sha256) == digest(token)
