"""Re-encryption of all sealed values with the first key of ENCRYPTION_KEYS, while the stack is running.

Each step reads some values, encrypts them again and swaps them in one statement, if the stored value is still the one
that was read. It skips locked rows, so it never waits for a lock while it holds one and cannot deadlock. The values
themselves record the progress, so another run resumes one that was killed.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import LargeBinary, Row, TextClause, text
from sqlalchemy.dialects import postgresql

from storage.database import Database
from storage.migrate import METADATA
from storage.sealing import SealBrokenError, Sealer

PREFIX = "sealed_"
"""Prefix of the name of every column with sealed values, and of no other column of bytes."""

PAGE_ROWS = 2_000
"""Rows listed at once, keys and lengths only: some 100 KB."""

COPIED_FROM = {"sealed_previous_secret": "sealed_secret"}
"""Columns into which a value is copied from another one of its row, by a rotation of a signing key."""

STEP_ROWS = 200
"""Maximum number of rows changed in one statement, which locks them for some ten milliseconds."""

STEP_BYTES = 1024 * 1024
"""Maximum size of the values of one step, which are in memory a few times over."""

MOST_PASSES = 5
"""Maximum number of passes over rows that are locked each time."""

NAMED_MOST = 5
"""Maximum number of rows named in a report."""

_POSTGRESQL: Any = postgresql.dialect()  # type: ignore[no-untyped-call]

Identity = tuple[Any, ...]


@dataclass(frozen=True)
class SealedColumn:
    """A column with sealed values, the key of its table, and the statements that read and change it."""

    table: str
    name: str
    key: tuple[tuple[str, str], ...]
    """Key columns, (name, SQL type) each."""

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"

    @property
    def _key(self) -> str:
        return ", ".join(name for name, _ in self.key)

    def page(self, *, after: bool) -> TextClause:
        """Return SQL of the next rows in the order of the key: the key and the value's length, null for no value."""
        beyond = ", ".join(f"CAST(:{name} AS {kind})" for name, kind in self.key)
        return text(
            f"SELECT {self._key}, octet_length({self.name}) AS bytes FROM {self.table} "
            f"{f'WHERE ({self._key}) > ({beyond})' if after else ''} ORDER BY {self._key} LIMIT {PAGE_ROWS}"
        )

    def _given(self, *values: str) -> str:
        arrays = [f"CAST(:{name} AS {kind}[])" for name, kind in (*self.key, *((value, "bytea") for value in values))]
        return f"unnest({', '.join(arrays)}) AS given ({', '.join([self._key, *values])})"

    @cached_property
    def read(self) -> TextClause:
        """SQL that reads key and value of the rows with given keys."""
        return text(
            f"SELECT {self._key}, {self.name} AS sealed FROM {self.table} JOIN {self._given()} USING ({self._key}) "
            f"WHERE {self.name} IS NOT NULL"
        )

    @cached_property
    def swap(self) -> TextClause:
        """SQL that replaces each unchanged value, except in locked rows, and returns the keys of the rows changed."""
        same = " AND ".join(f"target.{name} = given.{name}" for name, _ in self.key)
        target_key = ", ".join(f"target.{name}" for name, _ in self.key)
        return text(
            f"WITH given AS (SELECT * FROM {self._given('before', 'later')}), free AS ("
            f"SELECT {target_key} FROM {self.table} AS target JOIN given ON {same} "
            f"WHERE target.{self.name} = given.before FOR NO KEY UPDATE OF target SKIP LOCKED) "
            f"UPDATE {self.table} AS target SET {self.name} = given.later FROM given JOIN free USING ({self._key}) "
            f"WHERE {same} AND target.{self.name} = given.before RETURNING {target_key}"
        )

    def identity_of(self, row: Row[Any]) -> Identity:
        return tuple(getattr(row, name) for name, _ in self.key)

    def keys(self, identities: Iterable[Identity]) -> dict[str, list[Any]]:
        """Return the statement parameters for these rows."""
        columns = list(zip(*identities, strict=True))
        return {name: list(values) for (name, _), values in zip(self.key, columns, strict=True)}


def sealed_columns() -> list[SealedColumn]:
    """Return every column with sealed values, in the order of the tables' columns, on which `Resealing` relies."""
    keys = {
        table: tuple((column.name, column.type.compile(dialect=_POSTGRESQL)) for column in table.primary_key.columns)
        for table in METADATA.sorted_tables
    }
    return [
        SealedColumn(table.name, column.name, key)
        for table, key in keys.items()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name.startswith(PREFIX)
    ]


@dataclass
class Count:
    """Findings and changes in one column."""

    column: SealedColumn
    current: int = 0
    """Values sealed with the first key in the first pass."""
    other: int = 0
    """Values sealed with another key of ENCRYPTION_KEYS in the first pass."""
    resealed: int = 0
    late: int = 0
    """Values sealed with another key during the run, by a process with a different first key."""
    left: set[Identity] = field(default_factory=set)
    """Rows that were locked or being changed in the last pass."""
    unopenable: set[Identity] = field(default_factory=set)
    """Rows with a value that no key decrypts."""

    @property
    def examples(self) -> str:
        """The first few rows that no key decrypts."""
        named = sorted(":".join(map(str, identity)) for identity in self.unopenable)
        return ", ".join(named[:NAMED_MOST]) + (", …" if len(named) > NAMED_MOST else "")


@dataclass
class Report:
    """Findings and changes in all columns."""

    counts: list[Count]
    complete: bool = False
    """The last pass found nothing to do."""

    def total(self, name: str) -> int:
        """Return the sum of a figure over the columns, or of the sizes of a set."""
        values = [getattr(count, name) for count in self.counts]
        return sum(value if isinstance(value, int) else len(value) for value in values)

    @property
    def first_key_opens_all(self) -> bool:
        """True if no value was found that needs another key."""
        nothing_to_do = self.complete or not self.total("other")
        return nothing_to_do and not self.total("unopenable") and not self.total("late")


class Resealing:
    """One run over all sealed values.

    It repeats passes over all columns until a pass finds nothing to do. A rotation of a signing key copies
    `sealed_secret` to `sealed_previous_secret`; the former is processed first, so a copied value is resealed before or
    after the copy.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        on_pass: Callable[[int, int], None] = lambda number, values: None,
        on_step: Callable[[int], None] = lambda values: None,
        step_rows: int = STEP_ROWS,
    ) -> None:
        """Prepare a run. `on_pass` is called with the number of the pass and the number of values, `on_step` with the
        number of values read."""
        self._database = database
        self._sealer = sealer
        self._on_pass = on_pass
        self._on_step = on_step
        self._step_rows = step_rows
        self.report = Report([Count(column) for column in sealed_columns()])

    async def count(self) -> Report:
        """Count the values by key without changing any."""
        await self._pass(1, dry=True)
        return self.report

    async def run(self) -> Report:
        """Reseal all values; the report names those that could not be resealed."""
        for number in range(1, MOST_PASSES + 1):
            if not await self._pass(number, dry=False):
                self.report.complete = True
                break
        return self.report

    async def _pass(self, number: int, *, dry: bool) -> bool:
        """Process every column; return True if there was anything to do."""
        self._on_pass(number, await self._values())
        busy = False
        waiting = {(count.column.table, count.column.name): count.left for count in self.report.counts}
        """Rows of each column that the last pass found locked."""
        for count in self.report.counts:
            count.left, count.unopenable = set(), set()
            table, name = count.column.table, count.column.name
            explained = waiting[table, name] | waiting.get((table, COPIED_FROM.get(name, "")), set())
            async for identities in self._steps(count.column):
                current, other = await self._step(count, identities, dry=dry)
                busy = busy or bool(other)
                if number == 1:
                    count.current += current
                    count.other += len(other)
                else:
                    count.late += len(other - explained)
                self._on_step(len(identities))
        return busy

    async def _values(self) -> int:
        async with self._database.transaction() as connection:
            columns = [count.column for count in self.report.counts]
            counts = [await connection.scalar(text(f"SELECT count({one.name}) FROM {one.table}")) for one in columns]
        return sum(value or 0 for value in counts)

    async def _steps(self, column: SealedColumn) -> AsyncIterator[list[Identity]]:
        """Yield the keys of rows with a value, in groups limited by number and by bytes."""
        after: dict[str, Any] = {}
        while True:
            async with self._database.transaction() as connection:
                result = await connection.execute(column.page(after=bool(after)), after)
                rows = result.all()
            group: list[Identity] = []
            size = 0
            for row in rows:
                if row.bytes is None:
                    continue
                if group and (len(group) >= self._step_rows or size + row.bytes > STEP_BYTES):
                    yield group
                    group, size = [], 0
                group.append(column.identity_of(row))
                size += row.bytes
            if group:
                yield group
            if len(rows) < PAGE_ROWS:
                return
            after = {name: getattr(rows[-1], name) for name, _ in column.key}

    async def _step(self, count: Count, identities: Sequence[Identity], *, dry: bool) -> tuple[int, set[Identity]]:
        """Reseal values of another key; return the number of values of the first key, and the rows of the others."""
        column = count.column
        async with self._database.transaction() as connection:
            rows = (await connection.execute(column.read, column.keys(identities))).all()
        before: dict[Identity, bytes] = {}
        later: list[bytes] = []
        current = 0
        for row in rows:
            if self._sealer.is_current(row.sealed):
                current += 1
                continue
            try:
                later.append(self._sealer.reseal(row.sealed))
            except SealBrokenError:
                count.unopenable.add(column.identity_of(row))
                continue
            before[column.identity_of(row)] = row.sealed
        if before and not dry:
            values = {**column.keys(before), "before": list(before.values()), "later": later}
            async with self._database.transaction() as connection:
                swapped = {column.identity_of(row) for row in await connection.execute(column.swap, values)}
            count.resealed += len(swapped)
            count.left |= before.keys() - swapped
        return current, set(before)
