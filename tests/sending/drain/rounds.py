"""A drain's rounds, without Temporal."""

from uuid import UUID

from temporalio.testing import ActivityEnvironment

from activities.drain import DrainActivities
from domain.delivery.notices import DisableRules
from temporal.messages import DrainRound, DrainRoundResult
from tests.workbench import Workbench
from worker import breaker_rules


async def round_of(bench: Workbench, subscription_id: UUID, before: DrainRoundResult | None = None) -> DrainRoundResult:
    """One round of the subscription's drain, after another one."""
    activities = DrainActivities(
        bench.database,
        bench.dispatcher,
        breaker_rules(bench.settings),
        DisableRules(86400.0, 100),
        bench.settings.retry_schedule_seconds,
    )
    task = DrainRound(str(subscription_id))
    if before is not None:
        task = DrainRound(str(subscription_id), under_way=before.under_way, window=before.window)
    result: DrainRoundResult = await ActivityEnvironment().run(activities.drain_held, task)
    return result
