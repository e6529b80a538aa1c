"""A request that was prepared is the one that is sent, and is forgotten soon."""

from dataclasses import replace
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from domain.urls.rules import UrlRefused
from sending.requests import PREPARED_CHARACTERS, PREPARED_MOST, RequestBuilder
from storage.deliveries.open import OpenDelivery
from storage.events.single_events import claim_few
from storage.sealing import Sealer
from tests.deadlines import eventually
from tests.ground import Ground
from tests.sending.http.sending import LOCAL, STRICT

KEYS = [Fernet.generate_key().decode()]


@pytest.fixture
def builder() -> RequestBuilder:
    """As a worker has one."""
    return RequestBuilder(Sealer(KEYS), LOCAL)


@pytest.fixture
async def delivery(ground: Ground) -> OpenDelivery:
    """As it is read with the claim of its event."""
    secret = Sealer(KEYS).seal("whsec_" + "A" * 43 + "=")
    await ground.subscribe("CustomerUpdated", "http://127.0.0.1/hook", hmac_enabled=True, sealed_secret=secret)
    await ground.emit("CustomerUpdated", "{}")
    claimed = await claim_few(ground.database.quick, 10, lease_seconds=10)
    assert claimed is not None
    [ahead] = claimed.ahead.values()
    assert ahead.planned is not None
    _, [begun] = ahead.planned
    return begun


async def test_it_is_used_once(builder: RequestBuilder, delivery: OpenDelivery) -> None:
    builder.prepare([delivery])
    [prepared] = builder._prepared.values()
    first, second = builder.build(delivery), builder.build(delivery)
    assert first is prepared
    assert second is not prepared
    assert (first.url, first.body) == (second.url, second.body)
    assert dict(first.headers)["webhook-id"] == str(delivery.message_id)


async def test_another_attempt_has_a_request_of_its_own(builder: RequestBuilder, delivery: OpenDelivery) -> None:
    builder.prepare([delivery])
    later = replace(delivery, request_id=uuid4())
    assert str(later.request_id).encode() in builder.build(later).body


async def test_it_is_forgotten_when_nobody_asks_for_it(
    builder: RequestBuilder, delivery: OpenDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sending.requests.PREPARED_SECONDS", 0.01)
    builder.prepare([delivery])
    assert builder._prepared
    await eventually(lambda: _true(not builder._prepared), 5, "it is forgotten")


async def test_of_many_or_large_ones_few_are_prepared(builder: RequestBuilder, delivery: OpenDelivery) -> None:
    large = replace(delivery, event=replace(delivery.event, data_text=f'{{"a":"{"a" * PREPARED_CHARACTERS}"}}'))
    sealed = replace(delivery, sealed_data=b"*" * (PREPARED_CHARACTERS + 1))
    builder.prepare([large, sealed])
    assert not builder._prepared
    builder.prepare([replace(delivery, request_id=uuid4()) for _ in range(2 * PREPARED_MOST)])
    assert len(builder._prepared) == PREPARED_MOST


async def test_what_cannot_be_built_is_told_to_who_asks_for_it(delivery: OpenDelivery) -> None:
    builder = RequestBuilder(Sealer(KEYS), STRICT)
    builder.prepare([delivery])
    with pytest.raises(UrlRefused):
        builder.build(delivery)


@pytest.mark.parametrize("told", [True, False])
async def test_what_tells_of_its_attempts_trace_is_built_by_the_attempt(delivery: OpenDelivery, told: bool) -> None:
    builder = RequestBuilder(Sealer(KEYS), LOCAL, trace_receivers=told)
    builder.prepare([replace(delivery, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")])
    assert bool(builder._prepared) is not told


async def _true(value: bool) -> bool:
    return value
