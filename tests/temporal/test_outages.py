"""What an operator reads in the log while PostgreSQL or Temporal is away: what is away, and no data of an event."""

import logging

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from storage.database import Database
from temporal.guards import guarded
from temporal.outages import in_words, is_outage

NOWHERE = "postgresql://nobody:nothing@127.0.0.1:9/none"


async def error_of(database: Database, statement: str, **values: object) -> Exception:
    """Run a statement that fails; its error."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (each of them is looked at)
        async with database.transaction() as connection:
            await connection.execute(text(statement), values)
    return raised.value


async def test_a_server_that_refuses_connections_is_named() -> None:
    database = Database(NOWHERE, pool_size=1)
    error = await error_of(database, "SELECT 1")
    await database.close()
    assert is_outage(error)
    assert in_words(error) == "PostgreSQL: Connect call failed ('127.0.0.1', 9)"


async def test_a_connection_that_the_server_ends_is_an_outage(module_database_url: str) -> None:
    database = Database(module_database_url, pool_size=1)
    error = await error_of(database, "SELECT pg_terminate_backend(pg_backend_pid())")
    await database.close()
    assert is_outage(error)
    assert in_words(error).startswith("PostgreSQL: "), in_words(error)


def test_a_statement_on_a_connection_that_is_just_being_ended_is_an_outage() -> None:
    """The driver raises it if the server is killed between two of its own steps; SQLAlchemy wraps it."""
    cause = asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    translated = RuntimeError(str(cause))
    translated.__cause__ = cause
    error = InternalError("SELECT 1", {}, translated)
    assert is_outage(error)
    assert in_words(error) == "PostgreSQL: the connection was lost"


async def test_a_server_that_is_stopping_is_quoted_without_the_statement(module_database_url: str) -> None:
    database = Database(module_database_url, pool_size=1)
    raising = "DO $$ BEGIN RAISE EXCEPTION 'the database system is starting up' USING ERRCODE = '57P03'; END $$"
    error = await error_of(database, raising)
    await database.close()
    assert in_words(error) == "PostgreSQL: the database system is starting up"


@pytest.mark.parametrize(
    ("sqlstate", "said"),
    [
        ("28P01", "PostgreSQL: as PostgreSQL says it"),
        ("3D000", "PostgreSQL: as PostgreSQL says it"),
        ("55P03", "PostgreSQL: another session holds a lock on the table (see pg_stat_activity)"),
        ("57014", "PostgreSQL: a statement took too long and was cancelled"),
        ("40P01", "PostgreSQL: deadlock with another session"),
    ],
)
async def test_what_an_operator_repairs_and_what_passes_are_outages(
    module_database_url: str, sqlstate: str, said: str
) -> None:
    database = Database(module_database_url, pool_size=1)
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'as PostgreSQL says it' USING ERRCODE = '{sqlstate}'; END $$"
    error = await error_of(database, raising)
    await database.close()
    assert is_outage(error)
    assert in_words(error) == said


async def test_a_schema_that_does_not_fit_is_a_defect_with_its_remedy(module_database_url: str) -> None:
    database = Database(module_database_url, pool_size=1)
    error = await error_of(database, "SELECT * FROM missing")
    await database.close()
    assert not is_outage(error)
    assert in_words(error) == "PostgreSQL: a table is missing; run `loyalty-webhooks migrate`"


async def test_an_error_about_data_is_no_outage_and_quotes_nothing(module_database_url: str) -> None:
    database = Database(module_database_url, pool_size=1)
    error = await error_of(database, "SELECT CAST('4111 1111 1111 1111' AS uuid)")
    await database.close()
    assert not is_outage(error)
    assert "4111" not in in_words(error)


def test_temporal_is_named() -> None:
    error = RPCError("Timeout expired", RPCStatusCode.DEADLINE_EXCEEDED, b"")
    assert is_outage(error)
    assert in_words(error) == "Temporal: DEADLINE_EXCEEDED: Timeout expired"


async def test_an_activity_that_an_outage_interrupts_says_so_in_log_and_web_ui(
    module_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(NOWHERE, pool_size=1)

    async def act() -> None:
        async with guarded(), database.transaction():
            pass

    with caplog.at_level(logging.WARNING), pytest.raises(ApplicationError) as raised:
        await ActivityEnvironment().run(act)
    await database.close()
    assert raised.value.type == "Unavailable"
    assert "127.0.0.1" in raised.value.message
    assert "interrupted" in caplog.text
    assert "Traceback" not in caplog.text
