"""Subscriptions: store validated input with an audit entry per change, and build responses from rows.

Responses mask header values and show the effective value of unset fields.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, FieldProblem, NotFound, Problem, ValidationFailed, invalid
from api.idempotency import created_before
from api.resources import Resources
from api.subscriptions.models import (
    Header,
    MaskedHeader,
    SubscriptionCreate,
    SubscriptionDetails,
    SubscriptionRowOut,
    SubscriptionUpdate,
)
from api.subscriptions.url_check import CheckedUrl
from domain.access import Principal
from domain.delivery.lifecycle import SubscriptionStatus
from domain.events.catalogue import CATALOGUE
from domain.urls.rules import UrlRefused
from domain.wire.headers import HEADERS_MOST, OwnHeader
from storage.access.audit import MASK, changed, record
from storage.deliveries.transitions import release_groups
from storage.subscriptions.queries import (
    SubscriptionLimitError,
    SubscriptionLimits,
    SubscriptionRow,
    create_subscription,
    delete_subscription,
    find_subscription,
    first_key,
    open_headers,
    rotate_key,
    seal_headers,
    switch_signing_off,
    switch_signing_on,
    update_subscription,
)

OBJECT = "subscription"
_PLAIN = (
    "legacy",
    "name",
    "active_from",
    "rate_limit_per_second",
    "max_concurrency",
    "ordered",
    "order_key",
    "after_exhausted",
    "retry_schedule",
)
"""Fields that are stored as received."""


@dataclass(frozen=True, slots=True)
class Editor:
    """Changes of one actor to the subscriptions of one store."""

    resources: Resources
    store_code: str
    actor: str

    async def check(self, body: SubscriptionCreate | SubscriptionUpdate, event_name: str) -> CheckedUrl:
        """Run all checks that need no transaction. Raises ValidationFailed with all problems."""
        problems: list[FieldProblem] = list(_shape_problems(body, event_name))
        try:
            checked = await self.resources.url_check.check(body.url)
        except UrlRefused as refused:
            problems.append(Problem("url", refused.code, refused.message))
        if problems:
            raise ValidationFailed(problems)
        return checked

    async def create(
        self, connection: AsyncConnection, subscription_id: UUID, body: SubscriptionCreate, url: str
    ) -> str | None:
        """Store a new subscription. Return its key if signing is on. Raises ValidationFailed at a limit."""
        headers = headers_after([], body.given_headers or [])
        values = {
            "event_name": body.event_name,
            "url": url,
            "destination_type": body.destination_type,
            "sealed_headers": seal_headers(headers, self.resources.sealer),
            **{name: getattr(body, name) for name in _PLAIN},
        }
        settings = self.resources.settings
        limits = SubscriptionLimits(settings.subscriptions_per_store, settings.subscriptions_per_event)
        try:
            await create_subscription(connection, self.store_code, subscription_id, values, limits)
        except SubscriptionLimitError as error:
            raise limit_reached(error, body.event_name) from error
        secret = None
        if body.hmac_enabled:
            secret, _ = await switch_signing_on(connection, subscription_id, self.resources.sealer)
        after = {**_audited(values), "headers": masked(headers), "hmac_enabled": body.hmac_enabled}
        await self._record(connection, "create", subscription_id, changed({}, after))
        return secret

    async def update(
        self, connection: AsyncConnection, subscription_id: UUID, body: SubscriptionUpdate, url: str
    ) -> str | None:
        """Store the given fields. Return the key if this switches signing on. Raises NotFound, ValidationFailed."""
        row = await self._locked(connection, subscription_id)
        values: dict[str, Any] = {"url": url}
        values |= {name: getattr(body, name) for name in _PLAIN if name in body.model_fields_set}
        before: dict[str, Any] = {name: getattr(row, name) for name in values}
        after = dict(values)
        if body.given_headers is not None:
            stored = open_headers(row.sealed_headers, self.resources.sealer)
            headers = headers_after(stored, body.given_headers)
            values["sealed_headers"] = seal_headers(headers, self.resources.sealer)
            before["headers"], after["headers"] = masked(stored), compared(stored, headers)
        await update_subscription(connection, subscription_id, values)
        if reorders(row, body):
            await release_groups(connection, subscription_id)
        secret = None
        if "hmac_enabled" in body.model_fields_set and body.hmac_enabled != row.hmac_enabled:
            before["hmac_enabled"], after["hmac_enabled"] = row.hmac_enabled, body.hmac_enabled
            secret = await self._switch_signing(connection, subscription_id, on=body.hmac_enabled)
        await self._record(connection, "update", subscription_id, changed(_audited(before), _audited(after)))
        return secret

    async def delete(self, connection: AsyncConnection, subscription_id: UUID) -> None:
        """Delete the subscription. Raises NotFound."""
        deleted = await delete_subscription(connection, self.store_code, subscription_id)
        if deleted is None:
            raise NotFound
        event_name, url = deleted
        await self._record(connection, "delete", subscription_id, {"event_name": event_name, "url": url})

    async def rotate(self, connection: AsyncConnection, subscription_id: UUID) -> tuple[str, int]:
        """Return a new key and its version. Raises NotFound, and Conflict if signing is off."""
        row = await self._locked(connection, subscription_id)
        if not row.hmac_enabled:
            raise Conflict("Signing is off, so there is no key to rotate; switch it on with hmacEnabled first.")
        secret, version = await rotate_key(connection, subscription_id, self.resources.sealer)
        versions = {"before": row.signature_version, "after": version}
        await self._record(connection, "rotate_hmac_secret", subscription_id, {"signature_version": versions})
        return secret, version

    async def _switch_signing(self, connection: AsyncConnection, subscription_id: UUID, *, on: bool) -> str | None:
        if not on:
            await switch_signing_off(connection, subscription_id)
            return None
        secret, _ = await switch_signing_on(connection, subscription_id, self.resources.sealer)
        return secret

    async def _locked(self, connection: AsyncConnection, subscription_id: UUID) -> SubscriptionRow:
        row = await find_subscription(connection, self.store_code, subscription_id, lock=True)
        if row is None:
            raise NotFound
        return row

    async def _record(
        self, connection: AsyncConnection, action: str, subscription_id: UUID, changes: Mapping[str, Any]
    ) -> None:
        await record(
            connection,
            actor=self.actor,
            action=action,
            object_type=OBJECT,
            object_id=subscription_id,
            store_code=self.store_code,
            changes=changes,
        )


def _shape_problems(body: SubscriptionCreate | SubscriptionUpdate, event_name: str) -> Iterable[Problem]:
    if body.event_name is not None and body.event_name != event_name:
        yield Problem("eventName", "unchangeable", f"cannot be changed; it is {event_name}")
    if body.legacy and CATALOGUE[event_name].legacy is None:
        yield Problem("legacy", "no_legacy_form", f"{event_name} has no legacy format; omit legacy or set it to false")
    if body.header_name is not None and body.header_value is None:
        yield Problem("headerValue", "missing", "is required with headerName")
    if body.header_value is not None and body.header_name is None:
        yield Problem("headerName", "missing", "is required with headerValue")
    if len(body.given_headers or ()) > HEADERS_MOST:
        yield Problem("headerName", "too_long", f"exceeds the maximum of {HEADERS_MOST} headers")


def reorders(row: SubscriptionRow, body: SubscriptionUpdate) -> bool:
    """Return True if an update changes the ordering of deliveries."""
    given = body.model_fields_set & {"ordered", "order_key", "after_exhausted"}
    return any(getattr(body, name) != getattr(row, name) for name in given)


def headers_after(stored: Sequence[OwnHeader], given: Sequence[Header]) -> list[OwnHeader]:
    """Return the headers to store: the given values, with masks replaced by the stored values.

    If a name occurs several times, its n-th mask stands for its n-th stored value. Raises ValidationFailed.
    """
    values: dict[str, list[str]] = {}
    for own in stored:
        values.setdefault(own.name.lower(), []).append(own.value)
    seen: dict[str, int] = {}
    result: list[OwnHeader] = []
    problems: list[Problem] = []
    for index, header in enumerate(given):
        name = header.header_name.lower()
        position = seen[name] = seen.get(name, -1) + 1
        value = header.header_value
        if value == MASK:
            known = values.get(name, [])
            if position >= len(known):
                message = f"is the mask of a secret value, but {header.header_name} has no stored value"
                problems.append(Problem(f"headers.{index}.headerValue", "masked_value", message))
                continue
            value = known[position]
        result.append(OwnHeader(header.header_name, value.strip(" ")))
    if problems:
        raise ValidationFailed(problems)
    return result


def masked(headers: Sequence[OwnHeader]) -> list[str]:
    """Return headers as the audit log shows them."""
    return [f"{header.name}: {MASK}" for header in headers]


def compared(before: Sequence[OwnHeader], after: Sequence[OwnHeader]) -> list[str]:
    """Return changed headers as the audit log shows them: new values are marked, but not shown."""
    known = {(header.name.lower(), header.value) for header in before}
    return [
        f"{header.name}: {MASK}" if (header.name.lower(), header.value) in known else f"{header.name}: {MASK} (new)"
        for header in after
    ]


def _audited(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns as JSON, without sealed ones."""
    return {
        name: value.isoformat() if name == "active_from" and value is not None else value
        for name, value in values.items()
        if not name.startswith("sealed_")
    }


def limit_reached(error: SubscriptionLimitError, event_name: str) -> ValidationFailed:
    """Return the error for a limit of subscriptions that is reached."""
    if error.event:
        return invalid(
            "eventName", "limit_reached", f"{event_name} has {error.limit} subscriptions, which is the maximum"
        )
    return invalid("", "limit_reached", f"the store has {error.limit} subscriptions, which is the maximum")


@dataclass(frozen=True, slots=True)
class Created:
    """A new subscription with its signing key, if signing is on, and a warning about an unresolved host name."""

    id: UUID
    secret: str | None
    warning: str | None


async def create_once(
    resources: Resources, store_code: str, principal: Principal, body: SubscriptionCreate, key: str | None
) -> Created:
    """Create a subscription, or return the one this caller's idempotency key made before.

    Raises ValidationFailed, Conflict.
    """
    editor = Editor(resources, store_code, principal.actor)
    checked = await editor.check(body, body.event_name)
    subscription_id = uuid4()
    async with resources.database.transaction() as connection:
        earlier = await created_before(
            connection,
            store_code=store_code,
            actor=f"{principal.kind}:{principal.id}",  # names of keys are not unique, ids are
            key=key,
            body=body,
            object_id=subscription_id,
        )
        if earlier is not None:
            secret = await first_key(connection, store_code, earlier, resources.sealer)
            return Created(earlier, secret, checked.warning)
        secret = await editor.create(connection, subscription_id, body, checked.url.url)
    return Created(subscription_id, secret, checked.warning)


def _shared(row: SubscriptionRow, headers: list[MaskedHeader]) -> dict[str, Any]:
    return {
        "webhook_subscription_id": row.id,
        "event_name": row.event_name,
        "url": row.url,
        "header_name": headers[0].header_name if headers else None,
        "header_value": headers[0].header_value if headers else None,
        "legacy": row.legacy,
        "created_at": row.created_at,
        "destination_type": row.destination_type,
        "name": row.name,
        "active_from": row.active_from,
        "hmac_enabled": row.hmac_enabled,
        "active": row.status == SubscriptionStatus.ACTIVE,
    }


def _masked_headers(row: SubscriptionRow, resources: Resources) -> list[MaskedHeader]:
    stored = open_headers(row.sealed_headers, resources.sealer)
    return [MaskedHeader(header_name=header.name, header_value=MASK) for header in stored]


def row_of(row: SubscriptionRow, resources: Resources) -> SubscriptionRowOut:
    """Return the subscription as an item of a list."""
    return SubscriptionRowOut(**_shared(row, _masked_headers(row, resources)))


def details_of(row: SubscriptionRow, resources: Resources) -> SubscriptionDetails:
    """Return the subscription with all its fields."""
    headers = _masked_headers(row, resources)
    settings = resources.settings
    schedule = settings.retry_schedule_seconds if row.retry_schedule is None else row.retry_schedule
    return SubscriptionDetails(
        **_shared(row, headers),
        headers=headers,
        status=SubscriptionStatus(row.status),
        status_reason=row.status_reason,
        status_since=row.status_since,
        rate_limit_per_second=row.rate_limit_per_second,
        max_concurrency=row.max_concurrency or settings.subscription_concurrency,
        ordered=row.ordered,
        order_key=row.order_key,
        after_exhausted=row.after_exhausted,
        retry_schedule=list(schedule),
    )
