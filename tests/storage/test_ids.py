"""The driver's kind of UUID is as good as Python's."""

from uuid import RFC_4122, UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from domain.delivery import identity
from storage.ids import drawn_id, message_id, read_id


def test_drawn_ids_are_random_uuids() -> None:
    drawn = {drawn_id() for _ in range(100)}
    assert len(drawn) == 100
    assert {(one.version, one.variant) for one in drawn} == {(4, RFC_4122)}


@given(st.uuids(), st.uuids(), st.sampled_from(["main", "automatic", "test"]))
def test_a_message_id_is_the_same_by_whoever_derives_it(event_id: UUID, subscription_id: UUID, variant: str) -> None:
    ours = message_id(event_id, subscription_id, variant)
    assert ours == message_id(read_id(str(event_id)), read_id(str(subscription_id)), variant)
    assert ours == identity.message_id(event_id, subscription_id, variant)
    assert ours == uuid5(event_id, f"{subscription_id}/{variant}")


@given(st.uuids())
def test_an_id_is_one_key_whoever_made_it(made_by_python: UUID) -> None:
    ours = read_id(str(made_by_python))
    assert isinstance(ours, UUID)
    assert {made_by_python: 1}[ours] == {ours: 1}[made_by_python] == 1
    assert str(ours) == str(made_by_python)
