"""SQL that finds a subscription's deliveries of some status by the index `delivery_by_destination`, however many others
it has: its *branches*, one for each URL and status that occur, are few and found by skipping through the index.

`storage/deliveries/log.py` reads a whole store's branches in the same way. Whoever reads a branch in its order of age
calls `use_indexes_in_order` there before.
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
"""For WITH RECURSIVE: rows `branch` of the subscription `:subscription_id`."""

IN_BRANCH = f"""
delivery.subscription_id = :subscription_id AND {_HASH} = branch.url_hash AND delivery.status = branch.status
"""
"""Of a row `delivery` beside a row `branch`: that it lies in it."""
