"""One delivery is neither lost nor doubled, whatever crashes; a fault put into the protocol is found."""

import pytest

from tests.model.lifecycle import NOT_EXPLORED, ROWS, Mutation, Violation, explore


@pytest.mark.timeout(180)
def test_every_interleaving_keeps_the_promise_and_meets_every_transition_of_the_table() -> None:
    states, exercised = explore()
    print(f"\n{states:,} states explored")
    assert states > 10_000
    assert exercised | set(NOT_EXPLORED) == ROWS
    assert not exercised & set(NOT_EXPLORED), "it is explored by now: not left out any more"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("mutation", "finding"),
    [
        (Mutation.START_FIRST, "nobody owns it"),
        (Mutation.BOTH_OWN, "two own it"),
        (Mutation.BACK_TO_PENDING, "no transition of the table"),
        (Mutation.NO_RECONCILE, "it is lost"),
        (Mutation.NO_INTENT, "two send it"),
        (Mutation.LATE_FAILURE, "before the recovery"),
    ],
)
def test_a_fault_in_the_protocol_is_found(mutation: Mutation, finding: str) -> None:
    with pytest.raises(Violation, match=finding):
        explore(mutation)
