"""Activities of retention, a day at a time. Each may be repeated: finished work is recognised."""

from dataclasses import dataclass

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
from temporal.guards import guarded
from temporal.messages import ThinningResult


@dataclass(eq=False)
class RetentionActivities:
    """Retention, with a database connection of its own, because the copy of a day may take long."""

    database: Database
    rules: RetentionRules

    @activity.defn(name="make-days")
    async def make_days(self) -> int:
        """Create the partitions of the coming days, and of days with rows and no partition. Return their number."""
        async with guarded():
            return await make_coming_days(self.database) + await file_the_rest(self.database)

    @activity.defn(name="thin-oldest-day")
    async def thin_oldest_day(self) -> ThinningResult:
        """Delete expired data of the oldest day that has any. `day` is None if there is no such day."""
        async with guarded():
            due = await self.database.run(days_to_thin, self.rules)
            return await self._thin(due[0]) if due else ThinningResult()

    async def _thin(self, due: ThinDay) -> ThinningResult:
        thinned = Thinned(0, 0, 0) if due.thinned else await thin_day(self.database, due, self.rules)
        stores = await self.database.run(list_stores)
        pages = [page for store in stores for page in await self._clear(due, store.code)]
        await self.database.run(cleared, due.day)
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
            pages.append(await self.database.run(clear_page, due, store_code, behind, self.rules))
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
        total = 0
        async with guarded():
            for store in await self.database.run(list_stores):
                while page := await self.database.run(forget_ids, store.code, self.rules):
                    total += page
        return total
