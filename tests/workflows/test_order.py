"""Ordered by customer: each customer's events in the order of acceptance, and nobody waits for somebody else's."""

import asyncio
import json
from collections import Counter
from uuid import UUID, uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

from domain.delivery.identity import drain_workflow_id
from storage.deliveries.transitions import cancel
from storage.subscriptions.queries import pause, resume
from temporal.drains import Drains
from tests.deadlines import eventually
from tests.pipeline import STORE, Pipeline, pipeline
from tests.receiver import Exchange, Receiver, status, when

EVENT = "CustomerUpdated"
BY_CUSTOMER = {"ordered": True, "order_key": "customer", "retry_schedule": [1] * 5}
NUMBERS = [f"{number:06}" for number in range(10)]


def told(body: bytes) -> tuple[str, str]:
    """(customer, number) of a request."""
    customer = json.loads(body)["data"]["customer"]
    return customer["customerId"], customer["loyaltyCardNumber"]


class Moody:
    """Answers one customer's first requests badly, and everybody else's well."""

    def __init__(self, receiver: Receiver, customer: str, *bad: object) -> None:
        self.receiver = receiver
        self.customer = customer
        self.bad = list(bad)
        receiver.otherwise = self.answer

    async def answer(self, exchange: Exchange) -> None:
        bad = self.bad and told(exchange.request.body)[0] == self.customer
        await (self.bad.pop(0) if bad else status(200))(exchange)  # type: ignore[operator]

    def arrived(self) -> list[tuple[str, str]]:
        return [told(request.body) for request in self.receiver.requests]

    def numbers(self, customer: str) -> list[str]:
        return [number for one, number in self.arrived() if one == customer]


async def emit_each(running: Pipeline, customers: list[str], numbers: list[str] = NUMBERS) -> None:
    """An event of each customer for each number, in turn."""
    for number in numbers:
        for customer in customers:
            data = {"customer": {"customerId": customer, "loyaltyCardNumber": number}}
            await running.emit(EVENT, json.dumps(data))


async def wake(running: Pipeline, subscription_id: UUID) -> None:
    await Drains(running.client, running.settings.task_queue).wake(subscription_id, STORE, EVENT, "http://127.0.0.1/")


async def test_a_failing_customer_holds_back_its_own_events_and_nobody_elses(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    customers = [str(uuid4()) for _ in range(4)]
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        others_done = asyncio.Event()

        async def ailing(exchange: Exchange) -> None:
            """Fails until the others have all theirs."""
            if sum(one != customers[0] for one, _ in moody.arrived()) == 30:
                others_done.set()
            await status(200 if others_done.is_set() else 500)(exchange)

        moody = Moody(receiver, customers[0], *[ailing] * 60)
        await running.subscribe(EVENT, receiver.url("/hook"), **BY_CUSTOMER | {"retry_schedule": [1] * 50})
        await emit_each(running, customers)
        await running.until_statuses({"delivered": 40}, 60)
        failures = len(moody.numbers(customers[0])) - len(NUMBERS)
        assert failures > 0
        assert moody.numbers(customers[0]) == NUMBERS[:1] * failures + NUMBERS
        assert [moody.numbers(one) for one in customers[1:]] == [NUMBERS] * 3
        arrived = moody.arrived()
        last_of_others = max(at for at, (one, _) in enumerate(arrived) if one != customers[0])
        second_of_failing = arrived.index((customers[0], NUMBERS[1]))
        assert last_of_others < second_of_failing, "the others did not wait for its retries"


async def test_a_customer_whose_request_hangs_keeps_nobody_waiting_not_even_from_round_to_round(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    customers = [str(uuid4()) for _ in range(3)]
    async with Receiver() as receiver, pipeline(database_url, temporal.client, request_timeout_seconds=30) as running:
        gate = asyncio.Event()
        moody = Moody(receiver, customers[0], when(gate, status(500)))
        await running.subscribe(EVENT, receiver.url("/hook"), **BY_CUSTOMER)
        await emit_each(running, customers)

        async def others_done() -> bool:
            return Counter(one for one, _ in moody.arrived())[customers[1]] == 10

        await eventually(others_done, 20, "every delivery of another customer, while one hangs")
        late = str(uuid4())
        await emit_each(running, [late])

        async def late_done() -> bool:
            return moody.numbers(late) == NUMBERS

        await eventually(late_done, 20, "those of a customer that came later")
        assert moody.numbers(customers[0]) == NUMBERS[:1], "it hangs still"
        gate.set()
        await running.until_statuses({"delivered": 40}, 60)
        assert moody.numbers(customers[0]) == NUMBERS[:1] + NUMBERS


async def test_events_without_a_customer_are_one_line(database_url: str, temporal: WorkflowEnvironment) -> None:
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        receiver.script(status(500))
        await running.subscribe("CampaignCreated", receiver.url("/hook"), **BY_CUSTOMER)
        expected = []
        for number in range(5):
            expected.append(f"campaign {number}")
            await running.emit("CampaignCreated", json.dumps({"campaignId": expected[-1]}))
        await running.until_statuses({"delivered": 5}, 30)
        arrived = [json.loads(request.body)["data"]["campaignId"] for request in receiver.requests]
        assert arrived == expected[:1] + expected


async def test_what_waited_before_the_order_was_by_customer_finds_its_line(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    customers = [str(uuid4()) for _ in range(3)]
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        moody = Moody(receiver, customers[0], *[status(500)] * 2)
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), retry_schedule=[1] * 5)
        async with running.database.transaction() as connection:
            await pause(connection, subscription_id, reason="a person")
        await emit_each(running, customers)
        await running.until_statuses({"held": 30})
        await running.edit(subscription_id, ordered=True, order_key="customer")
        async with running.database.transaction() as connection:
            await resume(connection, subscription_id)
        await wake(running, subscription_id)
        await running.until_statuses({"delivered": 30}, 60)
        assert moody.numbers(customers[0]) == NUMBERS[:1] * 2 + NUMBERS
        assert [moody.numbers(one) for one in customers[1:]] == [NUMBERS] * 2


@pytest.mark.parametrize("order_key", ["subscription", "customer"])
async def test_an_exhausted_delivery_can_hold_its_line_until_a_person_lets_it_go(
    database_url: str, temporal: WorkflowEnvironment, order_key: str
) -> None:
    ailing, well = str(uuid4()), str(uuid4())
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        moody = Moody(receiver, ailing, status(500))
        fields = {"ordered": True, "order_key": order_key, "after_exhausted": "hold", "retry_schedule": []}
        subscription_id = await running.subscribe(EVENT, receiver.url("/hook"), **fields)
        await emit_each(running, [ailing, well], NUMBERS[:3])
        left = {"exhausted": 1, "held": 2, "delivered": 3} if order_key == "customer" else {"exhausted": 1, "held": 5}
        await running.until_statuses(left, 30)
        await wake(running, subscription_id)
        await running.client.get_workflow_handle(
            drain_workflow_id(subscription_id)
        ).result()  # it finds nothing to send
        assert await running.statuses() == left
        [ended] = [row for row in await running.deliveries() if row.status == "exhausted"]
        async with running.database.transaction() as connection:
            assert await cancel(connection, ended.message_id)
        await wake(running, subscription_id)
        await running.until_statuses({"cancelled": 1, "delivered": 5}, 30)
        assert moody.numbers(ailing) == NUMBERS[:3]
        assert moody.numbers(well) == NUMBERS[:3]


async def test_an_exhausted_delivery_is_skipped_unless_it_is_to_hold(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    ailing = str(uuid4())
    async with Receiver() as receiver, pipeline(database_url, temporal.client) as running:
        moody = Moody(receiver, ailing, status(500))
        await running.subscribe(EVENT, receiver.url("/hook"), **BY_CUSTOMER | {"retry_schedule": []})
        await emit_each(running, [ailing], NUMBERS[:3])
        await running.until_statuses({"exhausted": 1, "delivered": 2}, 30)
        assert moody.numbers(ailing) == NUMBERS[:3]


async def test_a_probe_of_an_unwell_receiver_overtakes_nothing(
    database_url: str, temporal: WorkflowEnvironment
) -> None:
    fast = {"breaker_failures": 2, "breaker_first_probe_seconds": 0.3, "breaker_longest_probe_seconds": 0.3}
    customers = [str(uuid4()) for _ in range(3)]
    async with Receiver() as receiver, pipeline(database_url, temporal.client, **fast) as running:
        receiver.script(*[status(500)] * 8)
        moody = Moody(receiver, "nobody")
        await running.subscribe(EVENT, receiver.url("/hook"), **BY_CUSTOMER | {"retry_schedule": [1] * 20})
        await emit_each(running, customers)
        await running.until_statuses({"delivered": 30}, 60)
        for one in customers:
            seen = list(dict.fromkeys(moody.numbers(one)))
            assert seen == NUMBERS
