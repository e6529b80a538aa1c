"""Skip scan for deliveries of some status, at a cost independent of all others.

A *branch* is a subscription, URL and status that occurs among the deliveries. Branches are few and are found by one
probe each of the index `delivery_by_destination`. `storage/deliveries/log.py` reads the branches of a whole store in
the same way; call its `use_indexes_in_order` before reading a branch in the order of age.
"""

_HASH = "hashtextextended(delivery.url, 0)"  # as in the index


def _branches(condition: str, **columns: str) -> str:
    found = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    key, last = ", ".join(columns.values()), ", ".join(f"branch.{name}" for name in columns)
    return f"""
branch AS (
    (SELECT {found} FROM delivery WHERE {condition} ORDER BY {key} LIMIT 1)
    UNION ALL
    SELECT next.* FROM branch CROSS JOIN LATERAL (
        SELECT {found} FROM delivery WHERE {condition} AND ({key}) > ({last}) ORDER BY {key} LIMIT 1
    ) AS next
)
"""


_IN_BRANCH = f"{_HASH} = branch.url_hash AND delivery.status = branch.status"

BRANCHES = _branches("delivery.subscription_id = :subscription_id", url_hash=_HASH, status="delivery.status")
"""SQL for WITH RECURSIVE: rows `branch` of the subscription `:subscription_id`."""

IN_BRANCH = f"delivery.subscription_id = :subscription_id AND {_IN_BRANCH}"
"""SQL over rows `delivery` and `branch`: the delivery belongs to the branch."""

ALL_BRANCHES = _branches("true", subscription_id="delivery.subscription_id", url_hash=_HASH, status="delivery.status")
"""Like `BRANCHES`, of all subscriptions."""

IN_ANY_BRANCH = f"delivery.subscription_id = branch.subscription_id AND {_IN_BRANCH}"
"""Like `IN_BRANCH`, for `ALL_BRANCHES`."""
