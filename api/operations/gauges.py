"""How the installation stands, as the metrics tell it: read beside the scrapes, which do not wait for it."""

import asyncio
import logging
import time

from storage.database import Database
from storage.operations.gauges import Standing, standing

REFRESH_SECONDS = 10.0  # several scrapers share a reading
STALE_SECONDS = 60.0  # an older reading is no figure any more
READ_SECONDS = 5.0
FIRST_SECONDS = 1.0  # the first scrape after a start waits so long for a reading

logger = logging.getLogger(__name__)


class StandingGauge:
    """The latest reading of the installation's figures."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._latest: Standing | None = None
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def current(self) -> Standing | None:
        """The latest figures, and the next reading begun when they are old; None when there are none to be trusted."""
        age = time.monotonic() - self._read_at
        if age > REFRESH_SECONDS and self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="standing")
        if self._reading is not None and age > STALE_SECONDS:
            await asyncio.wait([self._reading], timeout=FIRST_SECONDS)
        return self._latest if time.monotonic() - self._read_at <= STALE_SECONDS else None

    async def close(self) -> None:
        """Wait for a reading under way."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS), self._database.transaction() as connection:
                self._latest = await standing(connection)
            self._read_at = time.monotonic()
        except Exception as error:  # whatever it is, the metrics say NaN and the next scrape tries again
            logger.warning("the installation's figures were not read: %s", type(error).__name__)
        finally:
            self._reading = None
