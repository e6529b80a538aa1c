"""Subscribe a receiver and emit an event, with the client that openapi-python-client generates from the API.

python emit.py https://receiver.example.com/webhooks AvailablePointsAmountChanged '{"amount": 180.5, …}'
"""

import json
import os
import sys
import time
from typing import Any
from uuid import uuid4

import httpx
from loyalty_webhooks_client import AuthenticatedClient, models
from loyalty_webhooks_client.api.events import emit_event
from loyalty_webhooks_client.api.subscriptions import create_subscription
from loyalty_webhooks_client.types import Response

ATTEMPTS = 8
STORE = os.environ.get("LOYALTY_WEBHOOKS_STORE", "default")
CLIENT = AuthenticatedClient(
    os.environ["LOYALTY_WEBHOOKS_API"],
    token=os.environ["LOYALTY_WEBHOOKS_KEY"],
    prefix="",
    auth_header_name="X-AUTH-TOKEN",
    timeout=httpx.Timeout(15),
)


def repeated(call: Any, **arguments: Any) -> Any:
    """Return the parsed response. Repeat the call while the API is away or busy; exit with the body of a refusal."""
    reason, delay = "", 0.5
    for _ in range(ATTEMPTS):
        try:
            response: Response[Any] = call.sync_detailed(STORE, client=CLIENT, **arguments)
        except httpx.TransportError as error:
            reason, wait = str(error), delay
        else:
            if response.status_code < 300:
                return response.parsed
            reason = f"{response.status_code} {response.content.decode()}"
            if response.status_code not in (429, 503):
                break
            wait = float(response.headers.get("Retry-After", delay))
        print(f"again in {wait:g} s: {reason}", file=sys.stderr)
        time.sleep(wait)
        delay *= 2
    sys.exit(f"refused: {reason}")


def main(url: str, event_name: str, data: str) -> None:
    """Subscribe the URL to the event, then emit one."""
    subscription = models.SubscriptionCreate(models.SubscriptionCreateEventName(event_name), url, hmac_enabled=True)
    # The same key creates one subscription, however often the program runs within 24 hours.
    key = f"{event_name} {url}".replace(" ", "-")
    body = models.CreateSubscriptionBody(subscription)
    created = repeated(create_subscription, body=body, idempotency_key=key)
    print(f"subscribed {created.webhook_subscription_id}")
    # An id made before the first attempt makes repeats safe: the API accepts it once.
    event = models.EmittedEvent(
        models.EmittedEventEventName(event_name), models.EventData.from_dict(json.loads(data)), uuid4()
    )
    accepted = repeated(emit_event, body=models.EmitEventBody(event))
    print(f"accepted {accepted.event_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
