"""Skip scans for deliveries of some status, at a cost independent of the other deliveries.

A *branch* is a pair of URL and status that occurs among a subscription's deliveries. Branches are few and are found
by one probe each of the index `delivery_by_destination`. `storage/deliveries/log.py` reads the branches of a whole
store in the same way; call its `use_indexes_in_order` before reading a branch in the order of age.
"""

_HASH = "hashtextextended(delivery.url, 0)"  # as in the index

_FIRST = f"""
    SELECT {_HASH} AS url_hash, delivery.status FROM delivery
    WHERE delivery.subscription_id = :subscription_id {{beyond}}
    ORDER BY {_HASH}, delivery.status LIMIT 1
"""

BRANCHES = f"""
branch AS (
    ({_FIRST.format(beyond="")})
    UNION ALL
    SELECT next.* FROM branch CROSS JOIN LATERAL (
        {_FIRST.format(beyond=f"AND ({_HASH}, delivery.status) > (branch.url_hash, branch.status)")}
    ) AS next
)
"""
"""SQL for WITH RECURSIVE: rows `branch` of the subscription `:subscription_id`."""

IN_BRANCH = f"""
delivery.subscription_id = :subscription_id AND {_HASH} = branch.url_hash AND delivery.status = branch.status
"""
"""SQL over rows `delivery` and `branch`: the delivery belongs to the branch."""

_BRANCH = "SELECT subscription_id, hashtextextended(url, 0) AS url_hash, status FROM delivery"
_IN_ORDER = "ORDER BY subscription_id, hashtextextended(url, 0), status LIMIT 1"

ALL_BRANCHES = f"""
branch AS (
    ({_BRANCH} {_IN_ORDER})
    UNION ALL
    SELECT beyond.* FROM branch CROSS JOIN LATERAL (
        {_BRANCH} WHERE (subscription_id, hashtextextended(url, 0), status)
            > (branch.subscription_id, branch.url_hash, branch.status)
        {_IN_ORDER}
    ) AS beyond
)
"""
"""SQL for WITH RECURSIVE: rows `branch` of all subscriptions."""

IN_ANY_BRANCH = f"""
delivery.subscription_id = branch.subscription_id AND {_HASH} = branch.url_hash AND delivery.status = branch.status
"""
"""SQL over rows `delivery` and `branch` of all subscriptions: the delivery belongs to the branch."""
