"""What the ledger of a run proves, as figures; and of each promise over some runs whether it was kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tests.chaos import verdict
from tests.chaos.ledger import LASTING_KINDS, Attempt, Disturbance, Ledger
from tests.chaos.roles import BY_PATH, RATE_LIMIT, RETRY_SCHEDULE, customer_of
from tests.chaos.verdict import MAY_REPEAT, RECOVERED_SECONDS, Duplicate, Retry, quantile

ORDERED_PATH, CUSTOMERS_PATH, LIMITED_PATH, PLAIN_PATH = "/ordered", "/customers", "/limited", "/plain"
EARLY_SECONDS = 1.0

RECOVERIES = {
    "from a kill until new events arrive": ("kill",),
    "from the end of a partition, or a full disk, until new events arrive": LASTING_KINDS,
}
"""Promises about what may pass after disturbances of these kinds; of a run without such, none."""


@dataclass(frozen=True)
class Bounds:
    """How far measured instants may go. Counts have no bounds: they are nought, or explained."""

    recovery_seconds: float = RECOVERED_SECONDS
    retry_p99_seconds: float = 1.0
    overshoot: float = 0.05


STRICT = Bounds()
LENIENT = Bounds(recovery_seconds=90.0, retry_p99_seconds=60.0, overshoot=1.0)
"""Where other work may hold up the whole machine for as long as it likes, as beside other tests."""


@dataclass(frozen=True)
class Promise:
    """A promise, the worst that was seen, and what may be seen at most. What was not measured is neither kept nor
    broken."""

    text: str
    figure: float | None
    bound: float
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Whether it was seen to be kept."""
        return self.figure is not None and self.figure <= self.bound

    @property
    def broken(self) -> bool:
        """Whether it was seen to be broken."""
        return self.figure is not None and self.figure > self.bound


@dataclass(frozen=True)
class Met:
    """A disturbance and what it cost: requests it met, repeats laid to it, seconds until events went through again."""

    disturbance: Disturbance
    at: float
    under_way: int
    repeats: int
    recovery: float | None
    flow_gap: float | None


@dataclass(frozen=True)
class Findings:
    """The findings of one run."""

    seed: int
    seconds: float
    events: int
    sent_again: int
    deliveries: int
    requests: int
    faults: Mapping[str, int]
    """What the receiver did, by kind."""
    lost: Sequence[tuple[str, str]]
    unowed: Sequence[tuple[str, str]]
    renamed: Sequence[tuple[str, str]]
    refused: Sequence[str]
    duplicates: Sequence[Duplicate]
    repeated_although_recorded: Sequence[str]
    """Message ids of duplicates of which our own log says that the outcome was written before."""
    together: Sequence[Duplicate]
    inversions: Sequence[tuple[str, str]]
    latenesses: Sequence[float]
    retries: Sequence[Retry]
    overshoot: float
    fills_unnoticed: int
    met: Sequence[Met]

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(one.disturbance.kind == "kill" for one in self.met)


def examine(
    ledger: Ledger,
    *,
    seed: int,
    seconds: float,
    began_at: float,
    refused: Sequence[str] = (),
    said_of: Mapping[str, Sequence[Attempt]] = MappingProxyType({}),
    noticed_seconds: float = verdict.NOTICED_SECONDS,
) -> Findings:
    """The findings of a ledger. `said_of`: what our log says of the attempts of messages repeated, or retried early.

    `noticed_seconds` is how far a worker may be behind with reading answers when it dies.
    """
    duplicates = verdict.duplicates(ledger, noticed_seconds, said_of)
    return Findings(
        seed=seed,
        seconds=seconds,
        events=len(ledger.emitted),
        sent_again=sum(event.tries > 1 for event in ledger.emitted),
        deliveries=len(ledger.expected()),
        requests=len(ledger.arrivals),
        faults=Counter(one.kind for one in ledger.arrivals),
        lost=verdict.lost(ledger),
        unowed=verdict.unowed(ledger),
        renamed=verdict.renamed(ledger),
        refused=refused,
        duplicates=duplicates,
        repeated_although_recorded=[one.message_id for one in duplicates if _recorded(one, said_of)],
        together=verdict.together(ledger, noticed_seconds, said_of),
        inversions=verdict.inversions(ledger, ORDERED_PATH) + verdict.inversions(ledger, CUSTOMERS_PATH, customer_of),
        latenesses=verdict.latenesses(ledger, PLAIN_PATH),
        retries=timed_retries(ledger, said_of),
        overshoot=verdict.overshoot(ledger, LIMITED_PATH, RATE_LIMIT),
        fills_unnoticed=verdict.fills_unnoticed(ledger),
        met=[
            Met(
                one,
                one.began_at - began_at,
                verdict.under_way(ledger, one, noticed_seconds, duplicates),
                sum(duplicate.cause is one for duplicate in duplicates),
                verdict.recovery(ledger, one),
                verdict.flow_gap(ledger, one),
            )
            for one in ledger.disturbances
        ],
    )


def _recorded(duplicate: Duplicate, said_of: Mapping[str, Sequence[Attempt]]) -> bool:
    """Whether the good attempt was in our log before the repeat's sender read the delivery."""
    attempts = said_of.get(duplicate.message_id, ())
    written = [one.written_at for one in attempts[:-1] if one.outcome == "delivered" and one.written_at is not None]
    return any(at < duplicate.again_at - verdict.READ_SECONDS for at in written)


def timed_retries(ledger: Ledger, said_of: Mapping[str, Sequence[Attempt]] = MappingProxyType({})) -> list[Retry]:
    """Retries of the subscriptions where nothing but the schedule decides when they come."""
    paths = sorted({path for paths in ledger.paths.values() for path in paths if BY_PATH[path].keeps_time})
    return [one for path in paths for one in verdict.retries(ledger, path, RETRY_SCHEDULE, said_of)]


def calm(retries: Iterable[Retry]) -> list[float]:
    """How far retries were from their instant, of those that no disturbance touched."""
    return [abs(one.error) for one in retries if not one.disturbed]


def early(retries: Iterable[Retry]) -> list[Retry]:
    """Retries that came before their instant although the failure before them was known."""
    return [one for one in retries if one.error < -EARLY_SECONDS and not one.outcome_unknown]


def promises(runs: Sequence[Findings], bounds: Bounds = STRICT) -> list[Promise]:
    """Every promise over all runs."""
    duplicates = [one for run in runs for one in run.duplicates]
    kills = [one for run in runs for one in run.met if one.disturbance.kind == "kill"]
    beyond = max((one.repeats - one.under_way for one in kills), default=0)
    retries = [one for run in runs for one in run.retries]
    unexplained, at_once = (
        sum(one.cause is None or one.cause.name not in MAY_REPEAT for one in ones)
        for ones in (duplicates, [one for run in runs for one in run.together])
    )
    unnoticed = sum(run.fills_unnoticed for run in runs)
    recoveries = {
        text: [one.recovery for run in runs for one in run.met if one.disturbance.kind in kinds]
        for text, kinds in RECOVERIES.items()
    }
    return [
        Promise("lost", sum(len(run.lost) for run in runs), 0),
        Promise("emitted and neither accepted nor told to come again", sum(len(run.refused) for run in runs), 0),
        Promise("delivered to whom it was not owed", sum(len(run.unowed) for run in runs), 0),
        Promise("delivered under two message ids", sum(len(run.renamed) for run in runs), 0),
        Promise("repeated, and nothing done to a worker, a server or the network explains it", unexplained, 0),
        Promise("sent while another request of it was under way, and nothing explains it", at_once, 0),
        Promise("repeats at a kill, beyond the requests it met", beyond, 0),
        Promise("repeated although its outcome was written", sum(len(r.repeated_although_recorded) for r in runs), 0),
        Promise("sent out of order by an ordered webhook", sum(len(run.inversions) for run in runs), 0),
        Promise("retried before its instant although its outcome was known", len(early(retries)), 0),
        *(
            [Promise("full disk, and no write failed, or PostgreSQL's, and no emit got a 503", unnoticed, 0)]
            if any(one.disturbance.kind == "fill" for run in runs for one in run.met)
            else []
        ),
        *(
            Promise(text, max((one for one in ones if one is not None), default=None), bounds.recovery_seconds, "s")
            for text, ones in recoveries.items()
            if ones
        ),
        Promise("retry to its instant, undisturbed, p99", quantile(calm(retries), 0.99), bounds.retry_p99_seconds, "s"),
        Promise("rate limit overshot in the worst second", max(run.overshoot for run in runs), bounds.overshoot),
    ]
