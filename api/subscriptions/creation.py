"""Creating a subscription, for the API and for the panel: checked, and once however often it is asked for."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from api.idempotency import created_before
from api.resources import Resources
from api.subscriptions.models import SubscriptionCreate
from api.subscriptions.service import Editor
from domain.access import Principal
from storage.subscriptions.queries import first_key


@dataclass(frozen=True, slots=True)
class Created:
    """The subscription, its signing key if it signs, and what is to be looked at although it was accepted."""

    id: UUID
    secret: str | None
    warning: str | None


async def create_once(
    resources: Resources, store_code: str, principal: Principal, body: SubscriptionCreate, key: str | None
) -> Created:
    """Create it, unless this caller's idempotency key has made it already. Raises ValidationFailed and Conflict."""
    editor = Editor(resources, store_code, principal.actor)
    checked = await editor.check(body, body.event_name)
    subscription_id = uuid4()
    async with resources.database.transaction() as connection:
        earlier = await created_before(
            connection,
            store_code=store_code,
            actor=f"{principal.kind}:{principal.id}",  # names of keys repeat, ids do not
            key=key,
            body=body,
            object_id=subscription_id,
        )
        if earlier is not None:
            secret = await first_key(connection, store_code, earlier, resources.sealer)
            return Created(earlier, secret, checked.warning)
        secret = await editor.create(connection, subscription_id, body, checked.url.url)
    return Created(subscription_id, secret, checked.warning)
