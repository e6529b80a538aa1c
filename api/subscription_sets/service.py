"""Apply a set of subscriptions: compare it with the stored ones and make all changes in one transaction.

A dry run makes the same changes and rolls back, so its response matches that of the same call without `dryRun`.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import orjson
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, Problem, ValidationFailed
from api.subscription_sets.models import (
    FieldChange,
    OtherSubscription,
    PlannedChange,
    SetAnswer,
    StoredSubscription,
    SubscriptionEntry,
    SubscriptionSet,
)
from api.subscriptions.models import SubscriptionCreate, SubscriptionUpdate
from api.subscriptions.service import (
    CheckedInput,
    Editor,
    authentication_after,
    compared,
    headers_after,
    masked,
    masked_headers,
    moves,
    shown_authentication,
)
from domain.wire.authentication import compared_authentication, masked_authentication
from domain.wire.headers import OwnHeader
from storage.sealing import Sealer
from storage.subscriptions.queries import SubscriptionRow, all_subscriptions, open_authentication, open_headers

NAMED_MOST = 5
"""Maximum number of ids in an error message."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An entry and the subscription it applies to, if any."""

    index: int
    entry: SubscriptionEntry
    row: SubscriptionRow | None


def order(row: SubscriptionRow) -> tuple[str, str, str, str]:
    """Return the sort key of a subscription: event, name, URL; the id makes the order deterministic."""
    return row.event_name, row.name or "", row.url, str(row.id)


def stored_of(row: SubscriptionRow, sealer: Sealer) -> StoredSubscription:
    """Return the settable fields of a subscription; header values are masked, unset fields are None."""
    headers, authentication = masked_headers(row, sealer), shown_authentication(row, sealer)
    return StoredSubscription.of(row, webhook_subscription_id=row.id, headers=headers, authentication=authentication)


def pair_up(
    entries: Sequence[SubscriptionEntry], rows: Sequence[SubscriptionRow]
) -> tuple[list[Pair], list[SubscriptionRow]]:
    """Return each entry with its subscription, and the remaining subscriptions. Raises ValidationFailed.

    Entries are matched by id first, then by event and name among the subscriptions that no id matched.
    """
    problems = list(_repeated(entries))
    repeated = {problem.path for problem in problems}
    by_id = {str(row.id): row for row in rows}
    wanted = {entry.webhook_subscription_id.lower() for entry in entries if entry.webhook_subscription_id is not None}
    named: dict[tuple[str, str | None], list[SubscriptionRow]] = defaultdict(list)
    for row in rows:
        if str(row.id) not in wanted:
            named[row.event_name, row.name].append(row)
    pairs: list[Pair] = []
    for index, entry in enumerate(entries):
        path = f"subscriptions.{index}"
        found: list[SubscriptionRow] = []
        if entry.webhook_subscription_id is not None:
            known = by_id.get(entry.webhook_subscription_id.lower())
            found = [] if known is None else [known]
            if not found and f"{path}.webhookSubscriptionId" not in repeated:
                message = "is no webhook of this store; leave it out, and name it, to create one"
                problems.append(Problem(f"{path}.webhookSubscriptionId", "not_found", message))
        elif entry.name is not None:
            found = named[entry.event_name, entry.name]
            if len(found) > 1:
                ids = ", ".join(sorted(str(row.id) for row in found)[:NAMED_MOST])
                message = f"{len(found)} webhooks have this event and name; choose one by webhookSubscriptionId: {ids}"
                problems.append(Problem(f"{path}.name", "ambiguous", message))
        pairs.append(Pair(index, entry, found[0] if found else None))
    if problems:
        raise ValidationFailed(problems)
    taken = {pair.row.id for pair in pairs if pair.row is not None}
    return pairs, [row for row in rows if row.id not in taken]


def _repeated(entries: Sequence[SubscriptionEntry]) -> Iterator[Problem]:
    """Yield a problem for each entry that is ambiguous or has neither name nor id."""
    ids: set[str] = set()
    names = Counter((entry.event_name, entry.name) for entry in entries)
    for index, entry in enumerate(entries):
        path = f"subscriptions.{index}"
        if entry.webhook_subscription_id is not None:
            if entry.webhook_subscription_id.lower() in ids:
                yield Problem(f"{path}.webhookSubscriptionId", "repeated", "is the id of another entry")
            ids.add(entry.webhook_subscription_id.lower())
        elif entry.name is None:
            yield Problem(f"{path}.name", "missing", "is required: event and name identify the webhook")
        elif names[entry.event_name, entry.name] > 1:
            message = "is the name of another entry of this event; use distinct names, or ids"
            yield Problem(f"{path}.name", "repeated", message)


CHECKS_AT_ONCE = 4
"""Maximum concurrent URL checks: half of the resolver threads, so that other calls still get one."""

_OTHERWISE = frozenset({"webhook_subscription_id", "event_name", "url", "headers", "authentication"})
_SETTABLE = ("url", *(name for name in SubscriptionEntry.model_fields if name not in _OTHERWISE))
"""Fields, except those with secrets, that have the same name in an entry and a row."""
_UNSET = {name: SubscriptionEntry.model_fields[name].get_default() for name in _SETTABLE} | {"url": None}


@dataclass(frozen=True, slots=True)
class SetChange:
    """A change to make: `body` and its checks are the editor's arguments, or None for a deletion."""

    change: PlannedChange
    body: SubscriptionCreate | SubscriptionUpdate | None
    checked: CheckedInput | None
    subscription_id: UUID


async def apply_set(editor: Editor, wanted: SubscriptionSet) -> SetAnswer:
    """Apply the wanted set. Raises ValidationFailed with paths below `subscriptions`, and Conflict."""
    database = editor.resources.database
    rows = await database.run(all_subscriptions, editor.store_code)
    pairs, _ = pair_up(wanted.subscriptions, rows)
    checked = await _check(editor, pairs)
    async with database.transaction() as connection:
        rows = await all_subscriptions(connection, editor.store_code, lock=True)
        pairs, others = pair_up(wanted.subscriptions, rows)
        others.sort(key=order)
        steps = _steps(editor, pairs, checked)
        unchanged = len(pairs) - len(steps)
        if wanted.prune:
            steps += [_delete(row) for row in others]
        plan = plan_of(step.change for step in steps)
        if wanted.expected_plan not in (None, plan) and not wanted.dry_run:
            raise Conflict("The webhooks were changed meanwhile, so the changes would differ now.")
        changes = await _make(editor, connection, steps, dry_run=wanted.dry_run)
        if wanted.dry_run:
            await connection.rollback()
    left = [] if wanted.prune else [OtherSubscription.of(row, webhook_subscription_id=row.id) for row in others]
    return SetAnswer(plan=plan, applied=not wanted.dry_run, changes=changes, unchanged=unchanged, others=left)


async def _check(editor: Editor, pairs: Sequence[Pair]) -> list[CheckedInput]:
    """Run the editor's check on every entry. Raises ValidationFailed with the problems of all."""
    free = asyncio.Semaphore(CHECKS_AT_ONCE)
    problems: list[Problem] = []

    async def check(pair: Pair) -> CheckedInput | None:
        body = _create_body(pair.entry, pair.entry.url)
        try:
            async with free:
                return await editor.check(body, pair.entry.event_name if pair.row is None else pair.row.event_name)
        except ValidationFailed as failed:
            problems.extend(_below(pair.index, failed))
            return None

    checked = await asyncio.gather(*(check(pair) for pair in pairs))
    if problems:
        raise ValidationFailed(sorted(problems, key=lambda problem: int(problem.path.split(".")[1])))
    return [found for found in checked if found is not None]


def _steps(editor: Editor, pairs: Sequence[Pair], checked: Sequence[CheckedInput]) -> list[SetChange]:
    """Return the changes to make, in the order of the entries. Raises ValidationFailed."""
    steps: list[SetChange | None] = []
    problems: list[Problem] = []
    for pair, found in zip(pairs, checked, strict=True):
        try:
            steps.append(_step(editor, pair, found))
        except ValidationFailed as failed:
            problems += _below(pair.index, failed)
    if problems:
        raise ValidationFailed(problems)
    return [step for step in steps if step is not None]


def _step(editor: Editor, pair: Pair, checked: CheckedInput) -> SetChange | None:
    """Return the change that brings a subscription to its entry, or None if they match already."""
    entry, row, url = pair.entry, pair.row, checked.url
    moved = moves(url, row)
    stored = [] if row is None else open_headers(row.sealed_headers, editor.resources.sealer)
    headers = headers_after(stored, entry.headers, moved=moved)
    known = None if row is None else open_authentication(row.sealed_authentication, editor.resources.sealer)
    authentication = authentication_after(known, entry.authentication, checked.validity, moved=moved)
    wanted = {name: url if name == "url" else getattr(entry, name) for name in _SETTABLE}
    before = _UNSET if row is None else {name: getattr(row, name) for name in _SETTABLE}
    changed = {name: value for name, value in wanted.items() if value != before[name]}
    changes = [FieldChange(field=to_camel(name), before=before[name], after=value) for name, value in changed.items()]
    if headers != stored:
        changes.append(FieldChange(field="headers", before=masked(stored), after=compared(stored, headers)))
    if authentication != known:
        shown = compared_authentication(known, authentication)
        changes.append(FieldChange(field="authentication", before=masked_authentication(known), after=shown))
    if row is not None and not changes:
        return None
    body: SubscriptionCreate | SubscriptionUpdate = _create_body(entry, url)
    if row is not None:
        given: dict[str, Any] = {**changed, "url": url}
        given |= {"headers": entry.headers} if moved or headers != stored else {}
        given |= {"authentication": entry.authentication} if moved or authentication != known else {}
        body = SubscriptionUpdate.model_construct(_fields_set=set(given), **given)
    change = PlannedChange(
        action="create" if row is None else "update",
        index=pair.index,
        webhook_subscription_id=None if row is None else row.id,
        event_name=entry.event_name,
        name=entry.name,
        url=url,
        changes=changes,
        loses=[
            *_losses(stored, headers),
            *(["the authentication"] if known is not None and authentication is None else []),
            *(["the signing key"] if changed.get("hmac_enabled") is False else []),
        ],
        warning=checked.warning,
    )
    return SetChange(change, body, checked, uuid4() if row is None else row.id)


def _create_body(entry: SubscriptionEntry, url: str) -> SubscriptionCreate:
    values = {name: getattr(entry, name) for name in (*_SETTABLE, "headers", "authentication", "event_name")} | {
        "url": url
    }
    return SubscriptionCreate.model_construct(_fields_set=set(values), **values)


def _delete(row: SubscriptionRow) -> SetChange:
    loses = ["the webhook; what it still has to deliver is cancelled"]
    facts = {"webhook_subscription_id": row.id, "index": None, "changes": [], "loses": loses, "warning": None}
    return SetChange(PlannedChange.of(row, action="delete", **facts), None, None, row.id)


def _losses(before: Sequence[OwnHeader], after: Sequence[OwnHeader]) -> Iterator[str]:
    """Yield the header values that are dropped. A replaced value is no loss: the caller supplied a new one."""
    remaining = Counter(header.name.lower() for header in after)
    for header in before:
        name = header.name.lower()
        if remaining[name] == 0:
            yield f"the value of header {header.name}"
        remaining[name] = max(0, remaining[name] - 1)


def plan_of(changes: Iterable[PlannedChange]) -> str:
    """Return a fingerprint of the changes. It excludes warnings, which depend on DNS, and signing keys."""
    shown = [change.model_dump(mode="json", exclude={"warning", "hmac_secret"}) for change in changes]
    return sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def _make(
    editor: Editor, connection: AsyncConnection, steps: Sequence[SetChange], *, dry_run: bool
) -> list[PlannedChange]:
    """Make the changes, deletions first because they free capacity. Raises ValidationFailed at a limit."""
    made: dict[UUID, PlannedChange] = {}
    for step in sorted(steps, key=lambda step: ("delete", "update", "create").index(step.change.action)):
        secret = None
        try:
            if step.body is None or step.checked is None:
                await editor.delete(connection, step.subscription_id)
            elif isinstance(step.body, SubscriptionCreate):
                secret = await editor.create(connection, step.subscription_id, step.body, step.checked)
            else:
                secret = await editor.update(connection, step.subscription_id, step.body, step.checked)
        except ValidationFailed as failed:
            raise ValidationFailed(_below(step.change.index, failed)) from None
        shown = {} if dry_run else {"webhook_subscription_id": step.subscription_id, "hmac_secret": secret}
        made[step.subscription_id] = step.change.model_copy(update=shown)
    return [made[step.subscription_id] for step in steps]


def _below(index: int | None, failed: ValidationFailed) -> list[Problem]:
    """Return the same problems with their paths below the entry."""
    return [
        Problem(f"subscriptions.{index}.{problem.path}".rstrip("."), problem.code, problem.message)
        for problem in failed.problems
    ]
