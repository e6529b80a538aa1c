"""Subscriptions as they are read back: header values masked, what is not set shown as what applies."""

from typing import Any

from api.resources import Resources
from api.subscriptions.models import MaskedHeader, SubscriptionDetails, SubscriptionRowOut
from domain.delivery.lifecycle import SubscriptionStatus
from storage.access.audit import MASK
from storage.subscriptions.queries import SubscriptionRow, open_headers


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
    """As an item of a list."""
    return SubscriptionRowOut(**_shared(row, _masked_headers(row, resources)))


def details_of(row: SubscriptionRow, resources: Resources) -> SubscriptionDetails:
    """The whole of it."""
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
