"""A keeper's rounds, without Temporal."""

from uuid import UUID

from temporalio.testing import ActivityEnvironment

from activities.drain import KeeperActivities
from domain.delivery.notices import DisableRules
from temporal.messages import KeeperRound, KeeperRoundResult
from tests.workbench import Workbench
from worker_parts import breaker_rules


async def round_of(
    bench: Workbench, subscription_id: UUID, before: KeeperRoundResult | None = None
) -> KeeperRoundResult:
    """One round of the subscription's keeper, after another one."""
    activities = KeeperActivities(
        bench.database,
        bench.dispatcher,
        breaker_rules(bench.settings),
        DisableRules(86400.0, 100),
        bench.settings.retry_schedule_seconds,
    )
    task = KeeperRound(str(subscription_id))
    if before is not None:
        task = KeeperRound(str(subscription_id), under_way=before.under_way, window=before.window)
    result: KeeperRoundResult = await ActivityEnvironment().run(activities.keep_held, task)
    return result
