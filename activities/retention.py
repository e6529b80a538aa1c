"""Activities of retention, a day at a time. Each may be repeated: finished work is recognised."""

from temporalio import activity

from domain.retention import RetentionRules
from storage.access.stores import list_stores
from storage.database import Database
from storage.events.days import make_coming_days
from storage.events.retention import (
    ClearedPage,
    ThinDay,
    Thinned,
    clear_page,
    cleared,
    days_to_thin,
    file_the_rest,
    forget_ids,
    thin_day,
)
from temporal.guards import heartbeats, own_faults
from temporal.messages import ThinningResult


class RetentionActivities:
    """Retention, with a database connection of its own, because the copy of a day may take long."""

    def __init__(self, database: Database, rules: RetentionRules) -> None:
        self._database = database
        self._rules = rules

    @activity.defn(name="make-days")
    async def make_days(self) -> int:
        """Create the partitions of the coming days, and of days with rows and no partition. Return their number."""
        with own_faults():
            return await make_coming_days(self._database) + await file_the_rest(self._database)

    @activity.defn(name="thin-oldest-day")
    async def thin_oldest_day(self) -> ThinningResult:
        """Delete expired data of the oldest day that has any. `day` is None if there is no such day."""
        async with heartbeats():
            with own_faults():
                async with self._database.transaction() as connection:
                    due = await days_to_thin(connection, self._rules)
                return await self._thin(due[0]) if due else ThinningResult()

    async def _thin(self, due: ThinDay) -> ThinningResult:
        thinned = Thinned(0, 0, 0) if due.thinned else await thin_day(self._database, due, self._rules)
        async with self._database.transaction() as connection:
            stores = await list_stores(connection)
        pages = [page for store in stores for page in await self._clear(due, store.code)]
        async with self._database.transaction() as connection:
            await cleared(connection, due.day)
        return ThinningResult(
            due.day,
            due.age_days,
            thinned.bodies_kept,
            thinned.attempts_kept,
            sum(page.deleted for page in pages),
            sum(page.were_open for page in pages),
            thinned.bytes_freed,
        )

    async def _clear(self, due: ThinDay, store_code: str) -> list[ClearedPage]:
        pages: list[ClearedPage] = []
        while not pages or pages[-1].more_behind is not None:
            behind = pages[-1].more_behind if pages else None
            async with self._database.transaction() as connection:
                pages.append(await clear_page(connection, due, store_code, behind, self._rules))
        were_open = sum(page.were_open for page in pages)
        if were_open:
            activity.logger.warning(
                "retention deleted %d deliveries of store %s, accepted on %s, that were still pending or held",
                *(were_open, store_code, due.day),
            )
        return pages

    @activity.defn(name="forget-event-ids")
    async def forget_event_ids(self) -> int:
        """Delete event ids past their retention. Return their number."""
        async with heartbeats():
            with own_faults():
                async with self._database.transaction() as connection:
                    stores = await list_stores(connection)
                return sum([await self._forget(store.code) for store in stores])

    async def _forget(self, store_code: str) -> int:
        total = 0
        while True:
            async with self._database.transaction() as connection:
                page = await forget_ids(connection, store_code, self._rules)
            total += page
            if not page:
                return total
