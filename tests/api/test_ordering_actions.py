"""What a person does about a line of deliveries that wait for each other."""

from typing import Any
from uuid import uuid4

import pytest

from tests.api.acting import AT_ONCE_SECONDS, EVENT, ActionStarts
from tests.receiver import Receiver, status

BY_CUSTOMER = {"ordered": True, "orderKey": "customer"}
HOLDING = {**BY_CUSTOMER, "afterExhausted": "hold", "retrySchedule": []}


async def emitted(acting: ActionStarts, customer: str) -> str:
    """The id of a customer's event."""
    answer = await acting.api.emit(EVENT, {"customer": {"customerId": customer}})
    return str(answer.json()["eventId"])


async def stopped_group(acting: ActionStarts, receiver: Receiver) -> tuple[str, str, str, str]:
    """(subscription, exhausted delivery, event held behind it, its delivery)."""
    receiver.script(status(503))
    subscription = await acting.subscribe(receiver.url("/hook"), **HOLDING)
    customer = str(uuid4())
    first = await emitted(acting, customer)
    exhausted = await acting.until(first, "exhausted", 1)
    second = await emitted(acting, customer)
    return subscription, exhausted, second, await acting.until(second, "held", 0)


async def test_only_what_is_in_ones_own_line_comes_before_one(acting: ActionStarts, receiver: Receiver) -> None:
    receiver.script(status(503), status(503))
    await acting.subscribe(receiver.url("/hook"), **BY_CUSTOMER)
    one, another = str(uuid4()), str(uuid4())
    first, others = await emitted(acting, one), await emitted(acting, another)
    second = await emitted(acting, one)
    predecessor, free = await acting.until(first, "held", 1), await acting.until(others, "held", 1)
    successor = await acting.until(second, "held", 0)
    assert predecessor in await acting.refused(f"delivery/{successor}/send-now")
    [item] = (await acting.explain(second))["items"]
    assert (item["code"], item["behindMessageId"]) == ("behind_ordered", predecessor)
    [item] = (await acting.explain(others))["items"]
    assert (item["code"], item["behindMessageId"]) == ("waiting_for_retry", None)
    await acting.acted(f"delivery/{free}/send-now")
    await acting.until(others, "delivered", 2, AT_ONCE_SECONDS)
    assert (await acting.deliveries(second))[0]["status"] == "held"
    await acting.acted(f"delivery/{predecessor}/cancel")
    await acting.until(second, "delivered", 1, AT_ONCE_SECONDS)


@pytest.mark.parametrize(
    ("act", "exhausted_then"),
    [("redeliver", ("delivered", 2)), ("cancel", ("cancelled", 1))],
    ids=["redeliver", "cancel"],
)
async def test_what_a_person_does_about_the_exhausted_one_lets_its_line_go_on(
    acting: ActionStarts, receiver: Receiver, act: str, exhausted_then: tuple[str, int]
) -> None:
    _, exhausted, event, successor = await stopped_group(acting, receiver)
    [item] = (await acting.explain(event))["items"]
    assert (item["code"], item["behindMessageId"]) == ("behind_ordered", exhausted)
    assert exhausted in await acting.refused(f"delivery/{successor}/send-now")
    await acting.acted(f"delivery/{exhausted}/{act}")
    await acting.until(event, "delivered", 1)
    found = await acting.look(f"delivery/{exhausted}")
    assert (found["status"], found["attempts"]) == exhausted_then
    again = await acting.act(f"delivery/{exhausted}/cancel")
    assert again.status_code == 409, "it holds nothing back any more"


async def test_a_redelivery_that_fails_leaves_the_line_where_it_is(acting: ActionStarts, receiver: Receiver) -> None:
    _, exhausted, event, successor = await stopped_group(acting, receiver)
    receiver.script(status(503))
    await acting.acted(f"delivery/{exhausted}/redeliver")
    await receiver.wait_for(2)
    assert exhausted in await acting.refused(f"delivery/{successor}/send-now")
    [item] = (await acting.explain(event))["items"]
    assert item["code"] == "behind_ordered"


async def test_a_recovery_sends_the_exhausted_one_before_its_successors(
    acting: ActionStarts, receiver: Receiver
) -> None:
    subscription, exhausted, event, _ = await stopped_group(acting, receiver)
    await acting.acted(f"subscription/{subscription}/recover", {"recover": {"since": "2020-01-01T00:00:00Z"}})
    message_id = await acting.until(event, "delivered", 1)
    arrived = [request.header("webhook-id") or request.body.decode() for request in receiver.requests[1:]]
    assert exhausted in arrived[0]
    assert message_id in arrived[1]


@pytest.mark.parametrize(
    "fields", [{"afterExhausted": "skip"}, {"ordered": False}], ids=["skip from now on", "not ordered any more"]
)
async def test_a_subscription_that_is_to_skip_lets_its_lines_go_on_at_once(
    acting: ActionStarts, receiver: Receiver, fields: dict[str, Any]
) -> None:
    subscription, _, event, _ = await stopped_group(acting, receiver)
    body = {"webhookSubscription": {"url": receiver.url("/hook"), **fields}}
    answer = await acting.api.client.put(acting.api.url(f"webhook/subscription/{subscription}"), json=body)
    assert answer.status_code == 204, answer.text
    await acting.until(event, "delivered", 1, AT_ONCE_SECONDS)


async def test_enabling_a_subscription_lets_its_lines_go_on_with_what_comes(
    acting: ActionStarts, receiver: Receiver
) -> None:
    subscription, _, event, _ = await stopped_group(acting, receiver)
    await acting.acted(f"subscription/{subscription}/disable")
    await acting.until(event, "exhausted", 0)
    await acting.acted(f"subscription/{subscription}/enable")
    await acting.until(await acting.emit(), "delivered", 1)
