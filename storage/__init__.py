"""PostgreSQL: every table and every query of the product, by noun.

Single rows are read and written with SQLModel (`select(Model)`, `update(Model)`). SQL text is used where one statement
does more than that: sets of rows by `unnest`, LATERAL probes of a day's partition, skip scans,
claims with SKIP LOCKED, partition maintenance. Rows are read by column name in both cases (`storage/mapping.py`).
"""
