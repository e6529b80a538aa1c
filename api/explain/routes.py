"""Route that explains why an event was not delivered, as a code and a text per subscription of the store."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.access import DeliveryRead
from api.explain.models import Explained
from api.explain.service import explained
from api.ids import checked_id
from api.listing import Parameter, ParameterQuery
from api.resources import FromResources

router = APIRouter(prefix="/api/{storeCode}/webhook/explain", tags=["deliveries"])

EVENT_ID, SUBSCRIPTION_ID = "eventId", "webhookSubscriptionId"
ID_SCHEMA = {"type": "string", "format": "uuid"}

QUESTION = ParameterQuery(
    {
        EVENT_ID: Parameter(
            checked_id,
            {"description": "Id of the event, or of one of its deliveries.", "schema": ID_SCHEMA},
            required=True,
        ),
        SUBSCRIPTION_ID: Parameter(checked_id, {"description": "Explain only this webhook.", "schema": ID_SCHEMA}),
    }
)


@router.get("", summary="Explain why an event was not delivered")
async def explain_event(
    access: DeliveryRead, resources: FromResources, question: Annotated[dict[str, Any], Depends(QUESTION)]
) -> Explained:
    """Explain the event's state per webhook: match or mismatch, cause of waiting, outcome.

    The id of a delivery (`messageId`) in place of the event's explains this delivery.

    `docs/explain.md` lists the codes. For an unknown event, the response gives the likely causes.
    """
    event_id, subscription_id = question[EVENT_ID], question.get(SUBSCRIPTION_ID)
    return await explained(resources, access.principal, access.store_code, event_id, subscription_id)
