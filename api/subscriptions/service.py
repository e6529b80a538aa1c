"""Subscriptions: store validated input with an audit entry per change, and build responses from rows.

Responses mask header values and show the effective value of unset fields.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, Problem, ValidationFailed, existing, invalid
from api.idempotency import created_before
from api.resources import Resources
from api.store_actions import StoreActions
from api.subscriptions.authentication import Authentication, MtlsAuthentication, OAuth2Authentication, given_validity
from api.subscriptions.models import Header, MaskedHeader, SubscriptionCreate, SubscriptionDetails, SubscriptionUpdate
from domain.access import Principal
from domain.delivery.lifecycle import SubscriptionStatus
from domain.events.catalogue import CATALOGUE
from domain.urls.rules import UrlRefused, origin
from domain.wire.authentication import (
    AUTHORIZATION,
    SECRETS,
    AuthenticationValues,
    client_certificate,
    compared_authentication,
    masked_authentication,
    sends_authorization,
    unmasked_authentication,
)
from domain.wire.client_certificate import ClientCertificateRefused, Validity
from domain.wire.excerpts import MASK
from domain.wire.headers import HEADERS_MOST, OwnHeader
from settings import Settings
from storage.access.audit import changed
from storage.deliveries.transitions import release_groups
from storage.sealing import Sealer
from storage.subscriptions.queries import (
    SubscriptionLimitError,
    SubscriptionLimits,
    SubscriptionRow,
    create_subscription,
    delete_subscription,
    find_subscription,
    first_key,
    new_secret,
    open_authentication,
    open_headers,
    rotate_key,
    seal_authentication,
    seal_headers,
    sealed_key,
    sharing_key,
    switch_signing_off,
    switch_signing_on,
    update_subscription,
)

SUBSCRIPTION = "subscription"
"""Object type in the audit log."""
_PLAIN = (
    "legacy",
    "name",
    "active_from",
    "rate_limit_per_second",
    "max_concurrency",
    "timeout_seconds",
    "ordered",
    "order_key",
    "after_exhausted",
    "retry_schedule",
)
"""Fields that are stored as received."""

ENTER_AGAIN = "enter it again, since the destination changed"
"""Message about a stored secret that would be sent to another origin, where whoever changed the URL could read it."""


class CheckedInput(NamedTuple):
    """Results of the checks of a body: its normalised URL, a warning about its host, the validity of a new client
    certificate."""

    url: str
    warning: str | None
    validity: Validity | None


class Prepared(NamedTuple):
    """Secrets of new subscriptions that are not in the request: the key of a form, and those of `source` for masks."""

    secret: str | None = None
    headers: Sequence[OwnHeader] = ()
    authentication: AuthenticationValues | None = None
    source: SubscriptionRow | None = None


NOTHING_PREPARED = Prepared()


class Editor(StoreActions):
    """Changes of one actor to the subscriptions of one store."""

    async def check(self, body: SubscriptionCreate | SubscriptionUpdate, event_name: str) -> CheckedInput:
        """Run all checks that need no transaction. Raises ValidationFailed with all problems."""
        problems = list(_shape_problems(body, event_name))
        try:
            url, warning = await self.resources.url_check.check(body.url)
        except UrlRefused as refused:
            problems.append(Problem("url", refused.code, refused.message))
        validity = None
        if isinstance(body.authentication, OAuth2Authentication):
            try:
                await self.resources.url_check.check(body.authentication.token_url)
            except UrlRefused as refused:
                problems.append(Problem("authentication.tokenUrl", refused.code, refused.message))
        elif isinstance(body.authentication, MtlsAuthentication):
            try:
                validity = await asyncio.to_thread(given_validity, body.authentication)
            except ClientCertificateRefused as error:
                problems.append(Problem(f"authentication.{error.name}", "certificate", str(error)))
        if problems:
            raise ValidationFailed(problems)
        return CheckedInput(url, warning, validity)

    async def create(
        self,
        connection: AsyncConnection,
        subscription_id: UUID,
        body: SubscriptionCreate,
        checked: CheckedInput,
        prepared: Prepared = NOTHING_PREPARED,
    ) -> str | None:
        """Store a new subscription. Return its key if signing is on. Raises ValidationFailed at a limit."""
        url, validity = checked.url, checked.validity
        moved = moves(url, prepared.source)
        headers = headers_after(prepared.headers, body.given_headers or [], moved=moved)
        authentication = authentication_after(prepared.authentication, body.authentication, validity, moved=moved)
        refuse_conflicts(url, headers, authentication)
        values = {
            "event_name": body.event_name,
            "url": url,
            "destination_type": body.destination_type,
            "sealed_headers": seal_headers(headers, self.resources.sealer),
            **stored_authentication(authentication, validity, prepared.source, self.resources.sealer),
            **{name: getattr(body, name) for name in _PLAIN},
        }
        with limited(self.resources.settings, body.event_name) as limits:
            await create_subscription(connection, self.store_code, subscription_id, values, limits)
        secret = None
        if body.hmac_enabled:
            sealer = self.resources.sealer
            secret, _ = await switch_signing_on(connection, subscription_id, sealer, prepared.secret)
        after = {**_audited(values), "headers": masked(headers), "hmac_enabled": body.hmac_enabled}
        after["authentication"] = masked_authentication(authentication)
        await self.record(connection, "create", SUBSCRIPTION, subscription_id, changed({}, after))
        return secret

    async def update(
        self,
        connection: AsyncConnection,
        subscription_id: UUID,
        body: SubscriptionUpdate,
        checked: CheckedInput,
        secret: str | None = None,
    ) -> str | None:
        """Store the given fields. Return the key, `secret` or a new one, if this switches signing on.

        Raises NotFound, ValidationFailed.
        """
        row = await self._locked(connection, subscription_id)
        url, validity = checked.url, checked.validity
        values: dict[str, Any] = {"url": url}
        values |= {name: getattr(body, name) for name in _PLAIN if name in body.model_fields_set}
        before: dict[str, Any] = {name: getattr(row, name) for name in values}
        after = dict(values)
        moved = moves(url, row)
        stored = headers = open_headers(row.sealed_headers, self.resources.sealer)
        if body.given_headers is not None:
            headers = headers_after(stored, body.given_headers, moved=moved)
            values["sealed_headers"] = seal_headers(headers, self.resources.sealer)
            before["headers"], after["headers"] = masked(stored), compared(stored, headers)
        elif moved and stored:
            raise invalid("headers", "destination_changed", ENTER_AGAIN)
        known = authentication = open_authentication(row.sealed_authentication, self.resources.sealer)
        if "authentication" in body.model_fields_set:
            authentication = authentication_after(known, body.authentication, validity, moved=moved)
            values |= stored_authentication(authentication, validity, row, self.resources.sealer)
            before["authentication"] = masked_authentication(known)
            after["authentication"] = compared_authentication(known, authentication)
        elif moved and known is not None:
            raise invalid("authentication", "destination_changed", ENTER_AGAIN)
        refuse_conflicts(url, headers, authentication)
        await update_subscription(connection, subscription_id, values)
        if reorders(row, body):
            await release_groups(connection, subscription_id)
        key = None
        if "hmac_enabled" in body.model_fields_set and body.hmac_enabled != row.hmac_enabled:
            before["hmac_enabled"], after["hmac_enabled"] = row.hmac_enabled, body.hmac_enabled
            if body.hmac_enabled:
                key, _ = await switch_signing_on(connection, subscription_id, self.resources.sealer, secret)
            else:
                await switch_signing_off(connection, subscription_id)
        changes = changed(_audited(before), _audited(after))
        await self.record(connection, "update", SUBSCRIPTION, subscription_id, changes)
        return key

    async def change(self, row: SubscriptionRow, body: SubscriptionUpdate, secret: str | None = None) -> str | None:
        """Check and store the given fields in a transaction. Return the key if this switches signing on.

        Raises NotFound, ValidationFailed.
        """
        checked = await self.check(body, row.event_name)
        key = await self.resources.database.run(self.update, row.id, body, checked, secret)
        if reorders(row, body):
            await self.wake_drain(row.id, row.event_name, checked.url)
        return key

    async def delete(self, connection: AsyncConnection, subscription_id: UUID) -> None:
        """Delete the subscription. Raises NotFound."""
        event_name, url = existing(await delete_subscription(connection, self.store_code, subscription_id))
        changes = {"event_name": event_name, "url": url}
        await self.record(connection, "delete", SUBSCRIPTION, subscription_id, changes)

    async def remove(self, row: SubscriptionRow) -> None:
        """Delete the subscription in a transaction, and cancel its open deliveries. Raises NotFound."""
        await self.resources.database.run(self.delete, row.id)
        await self.wake_drain(row.id, row.event_name, row.url, probe_now=True)

    async def rotate(
        self, connection: AsyncConnection, subscription: SubscriptionRow
    ) -> tuple[str, int, list[SubscriptionRow]]:
        """Return a new key of the subscription, its version, and the others that had the same key and get the new one.

        Their receiver has one key for its URL. Raises NotFound, and Conflict if signing is off.
        """
        sealer, secret = self.resources.sealer, new_secret()
        others = await sharing_key(connection, subscription, sealer, lock=True)
        row = await self._locked(connection, subscription.id)
        if not row.hmac_enabled:
            raise Conflict("Signing is off, so there is no key to rotate; switch it on with hmacEnabled first.")
        for one in (*others, row):
            _, version = await rotate_key(connection, one.id, sealer, secret)
            versions = {"signature_version": {"before": one.signature_version, "after": version}}
            await self.record(connection, "rotate_hmac_secret", SUBSCRIPTION, one.id, versions)
        return secret, version, others

    async def reveal_key(self, connection: AsyncConnection, row: SubscriptionRow) -> str:
        """Return the signing key of a subscription. The calling code has checked the person's password.

        Raises Conflict if signing is off.
        """
        sealed = await sealed_key(connection, row.id)
        if sealed is None:
            raise Conflict("Signing is off, so there is no key.")
        await self.record(connection, "reveal_hmac_secret", SUBSCRIPTION, row.id)
        return self.resources.sealer.open(sealed)

    async def record_refused_reveal(self, connection: AsyncConnection, subscription_id: UUID) -> None:
        """Write an audit entry of a wrong password for `reveal_key`."""
        await self.record(connection, "reveal_hmac_secret_refused", SUBSCRIPTION, subscription_id)

    async def _locked(self, connection: AsyncConnection, subscription_id: UUID) -> SubscriptionRow:
        return existing(await find_subscription(connection, self.store_code, subscription_id, lock=True))


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


def moves(url: str, stored: SubscriptionRow | None) -> bool:
    """Return True if the URL has another origin than the stored one, so that stored secrets must not follow."""
    return stored is not None and origin(url) != origin(stored.url)


def headers_after(stored: Sequence[OwnHeader], given: Sequence[Header], *, moved: bool) -> list[OwnHeader]:
    """Return the headers to store: the given values, with masks replaced by the stored values unless `moved`.

    If a name occurs several times, its n-th mask stands for its n-th stored value. Raises ValidationFailed.
    """
    values: dict[str, list[str]] = defaultdict(list)
    """Stored values by lower-case name that no given header has taken yet."""
    for own in stored:
        values[own.name.lower()].append(own.value)
    result: list[OwnHeader] = []
    problems: list[Problem] = []
    for index, header in enumerate(given):
        known = values[header.header_name.lower()]
        value = known.pop(0) if known else None
        if header.header_value != MASK:
            value = header.header_value
        elif moved and value is not None:
            problems.append(Problem(f"headers.{index}.headerValue", "destination_changed", ENTER_AGAIN))
        if value is not None:
            result.append(OwnHeader(header.header_name, value.strip(" ")))
        else:
            message = f"is the mask of a secret value, but {header.header_name} has no stored value"
            problems.append(Problem(f"headers.{index}.headerValue", "masked_value", message))
    if problems:
        raise ValidationFailed(problems)
    return result


def authentication_after(
    stored: AuthenticationValues | None, given: Authentication | None, validity: Validity | None, *, moved: bool
) -> AuthenticationValues | None:
    """Return the authentication to store: the given one, with masks replaced by the stored secrets of the same type.

    The mask of a secret whose destination changed is refused: the URL (`moved`), for OAuth 2 the token URL, too.
    `validity` is that of a given client certificate.

    Raises ValidationFailed.
    """
    if given is None:
        return None
    sent = given.model_dump(by_alias=True, exclude_none=True)
    if stored is not None and stored["type"] == given.type:
        if isinstance(given, OAuth2Authentication):
            moved = moved or origin(given.token_url) != origin(stored["tokenUrl"])
        kept = [name for name in sent if name in SECRETS and sent[name] == MASK] if moved else []
        if kept:
            raise ValidationFailed(
                [Problem(f"authentication.{name}", "destination_changed", ENTER_AGAIN) for name in kept]
            )
    values, missing = unmasked_authentication(sent, stored)
    message = f"is the mask of a secret value, but there is no stored {given.type} authentication"
    problems = [Problem(f"authentication.{name}", "masked_value", message) for name in missing]
    if problems:
        raise ValidationFailed(problems)
    if validity is not None and values != stored:
        begins_at, ends_at = validity
        if ends_at <= datetime.now(UTC):
            raise invalid("authentication.certificate", "expired", f"has expired, at {ends_at.isoformat()}")
        if begins_at > datetime.now(UTC):
            raise invalid("authentication.certificate", "not_yet_valid", f"is valid from {begins_at.isoformat()} only")
    return values


def stored_authentication(
    authentication: AuthenticationValues | None,
    validity: Validity | None,
    source: SubscriptionRow | None,
    sealer: Sealer,
) -> dict[str, Any]:
    """Return the columns of an authentication. A client certificate without `validity` is the one of `source`."""
    expires_at = None
    if client_certificate(authentication) is not None:
        expires_at = validity[1] if validity is not None else source and source.certificate_expires_at
    return {"sealed_authentication": seal_authentication(authentication, sealer), "certificate_expires_at": expires_at}


def refuse_conflicts(url: str, headers: Sequence[OwnHeader], authentication: AuthenticationValues | None) -> None:
    """Raise ValidationFailed for an authentication that URL or headers make useless."""
    own = any(header.name.lower() == AUTHORIZATION.lower() for header in headers)
    if own and sends_authorization(authentication):
        raise invalid("authentication", "repeated", f"sets the header {AUTHORIZATION}: remove it from the headers")
    if client_certificate(authentication) is not None and not url.startswith("https:"):
        raise invalid("authentication", "not_https", "has a client certificate, which needs an https URL")


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
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
        if not name.startswith("sealed_")
    }


@contextmanager
def limited(settings: Settings, event_name: str) -> Iterator[SubscriptionLimits]:
    """Provide the limits for a new subscription. Raises ValidationFailed when one is reached."""
    try:
        yield SubscriptionLimits(settings.subscriptions_per_store, settings.subscriptions_per_event)
    except SubscriptionLimitError as error:
        path, owner = ("eventName", event_name) if error.event else ("", "the store")
        message = f"{owner} has {error.limit} webhooks, which is the maximum"
        raise invalid(path, "limit_reached", message) from error


def _canonical(body: SubscriptionCreate, url: str) -> SubscriptionCreate:
    """Return the body in the form that all bodies of its meaning share: URL in its normal form, headers in one list."""
    headers = body.given_headers or []
    return body.model_copy(update={"url": url, "headers": headers, "header_name": None, "header_value": None})


async def create_once(
    resources: Resources,
    store_code: str,
    principal: Principal,
    bodies: Sequence[SubscriptionCreate],
    key: str | None,
    prepared: Prepared = NOTHING_PREPARED,
) -> list[tuple[UUID, str | None]]:
    """Create subscriptions in one transaction; return the id and signing key of each.

    Several share a signing key, because one receiver gets them. If this idempotency key of the caller made them before,
    those are returned. Raises ValidationFailed, Conflict.
    """
    editor = Editor(resources, store_code, principal.actor)
    checked = [await editor.check(body, body.event_name) for body in bodies]
    meant = [_canonical(body, found.url) for body, found in zip(bodies, checked, strict=True)]
    if len(bodies) > 1 and prepared.secret is None:
        prepared = prepared._replace(secret=new_secret())
    made: list[tuple[UUID, str | None]] = []
    async with resources.database.transaction() as connection:
        for body, found in zip(bodies, checked, strict=True):
            subscription_id = uuid4()
            earlier = await created_before(
                connection,
                store_code=store_code,
                actor=f"{principal.kind}:{principal.id}",  # names of keys are not unique, ids are
                key=f"{key}/{len(made)}" if key and made else key,
                bodies=meant,  # each claim covers all, so that a repeat with other events is a conflict
                object_id=subscription_id,
            )
            if earlier is not None:
                secret = await first_key(connection, store_code, earlier, resources.sealer)
            else:
                secret = await editor.create(connection, subscription_id, body, found, prepared)
            made.append((earlier or subscription_id, secret))
    return made


def masked_headers(row: SubscriptionRow, sealer: Sealer) -> list[MaskedHeader]:
    """Return the headers with masked values."""
    stored = open_headers(row.sealed_headers, sealer)
    return [MaskedHeader(header_name=header.name, header_value=MASK) for header in stored]


def shown_authentication(row: SubscriptionRow, sealer: Sealer) -> dict[str, str] | None:
    """Return the authentication with masked secrets."""
    return masked_authentication(open_authentication(row.sealed_authentication, sealer))


async def checked_details_of(row: SubscriptionRow, resources: Resources) -> SubscriptionDetails:
    """Return the subscription with all its fields. Its host name is looked up."""
    return details_of(row, resources, await resources.url_check.warning(row.url))


def details_of(row: SubscriptionRow, resources: Resources, url_warning: str | None = None) -> SubscriptionDetails:
    """Return the subscription with its fields, without looking up its host name."""
    headers, settings = masked_headers(row, resources.sealer), resources.settings
    return SubscriptionDetails.of(
        row,
        webhook_subscription_id=row.id,
        headers=headers,
        authentication=shown_authentication(row, resources.sealer),
        header_name=headers[0].header_name if headers else None,
        header_value=MASK if headers else None,
        active=row.status == SubscriptionStatus.ACTIVE,
        status=SubscriptionStatus(row.status),
        max_concurrency=row.max_concurrency or settings.subscription_concurrency,
        timeout_seconds=row.timeout_seconds or settings.request_timeout_seconds,
        retry_schedule=list(settings.retry_schedule_seconds if row.retry_schedule is None else row.retry_schedule),
        url_warning=url_warning,
    )
