"""Which subscription each entry of a set speaks of: by its id, or else by event and name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from api.errors import Problem, ValidationFailed
from api.subscription_sets.models import SubscriptionEntry
from storage.subscriptions.queries import SubscriptionRow

NAMED_MOST = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """An entry and the subscription it speaks of, if there is one."""

    index: int
    entry: SubscriptionEntry
    row: SubscriptionRow | None


def order(row: SubscriptionRow) -> tuple[str, str, str, str]:
    """Sorts subscriptions as people look for them, always the same way."""
    return row.event_name, row.name or "", row.url, str(row.id)


def pair_up(
    entries: Sequence[SubscriptionEntry], rows: Sequence[SubscriptionRow]
) -> tuple[list[Pair], list[SubscriptionRow]]:
    """Each entry with its subscription, and the subscriptions left over. Raises ValidationFailed.

    First by id, then by event and name among those that no id took.
    """
    by_id = {row.id: row for row in rows}
    problems = list(_repeated(entries))
    claimed: dict[int, SubscriptionRow] = {}
    for index, entry in enumerate(entries):
        if entry.webhook_subscription_id is None:
            continue
        row = by_id.pop(UUID(entry.webhook_subscription_id), None)
        if row is not None:
            claimed[index] = row
        elif not any(problem.path.startswith(f"subscriptions.{index}.") for problem in problems):
            message = "is no subscription of this store; leave it out, and name it, to create one"
            problems.append(Problem(f"subscriptions.{index}.webhookSubscriptionId", "not_found", message))
    named: dict[tuple[str, str | None], list[SubscriptionRow]] = {}
    for row in by_id.values():
        named.setdefault((row.event_name, row.name), []).append(row)
    for index, entry in enumerate(entries):
        if entry.webhook_subscription_id is not None:
            continue
        found = named.get((entry.event_name, entry.name), []) if entry.name is not None else []
        if len(found) > 1:
            ids = ", ".join(sorted(str(row.id) for row in found)[:NAMED_MOST])
            message = f"{len(found)} subscriptions have this event and name; say which by webhookSubscriptionId: {ids}"
            problems.append(Problem(f"subscriptions.{index}.name", "ambiguous", message))
        elif found:
            claimed[index] = found[0]
    if problems:
        raise ValidationFailed(problems)
    taken = {row.id for row in claimed.values()}
    pairs = [Pair(index, entry, claimed.get(index)) for index, entry in enumerate(entries)]
    return pairs, [row for row in rows if row.id not in taken]


def _repeated(entries: Sequence[SubscriptionEntry]) -> Iterator[Problem]:
    """Entries that cannot be told apart, or have neither name nor id."""
    ids: set[str] = set()
    names = Counter((entry.event_name, entry.name) for entry in entries)
    for index, entry in enumerate(entries):
        path = f"subscriptions.{index}"
        if entry.webhook_subscription_id is not None:
            if entry.webhook_subscription_id.lower() in ids:
                yield Problem(f"{path}.webhookSubscriptionId", "repeated", "is the id of another entry too")
            ids.add(entry.webhook_subscription_id.lower())
        elif entry.name is None:
            yield Problem(f"{path}.name", "missing", "is required: event and name tell which subscription it is")
        elif names[entry.event_name, entry.name] > 1:
            message = "is the name of another entry of this event too; give each its own name, or its id"
            yield Problem(f"{path}.name", "repeated", message)
