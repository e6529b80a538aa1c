"""The protocol holds in every interleaving and after every crash; a protocol with a fault in it does not."""

import pytest

from tests.model.protocol import Mutation, Violation, explore


@pytest.mark.timeout(180)
def test_every_interleaving_keeps_the_promise() -> None:
    states = explore()
    print(f"\n{states:,} states explored")
    assert states > 10_000


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("mutation", "finding"),
    [
        (Mutation.BATCH_ANEW, "names|sent"),
        (Mutation.ANSWER_FIRST, "lost"),
        (Mutation.OUTCOME_FIRST, "never delivered"),
        (Mutation.IGNORE_LEASE, "sent 2 times, 0 of them cut off"),
    ],
)
def test_a_fault_in_the_protocol_is_found(mutation: Mutation, finding: str) -> None:
    with pytest.raises(Violation, match=finding):
        explore(mutation)
