"""Which first attempts a worker takes on: each holds one place, whether it is about to be begun or under way."""

from collections import Counter
from uuid import uuid4

from sending.admission import Admissions

ONE, OTHER = uuid4(), uuid4()


def test_all_that_are_admitted_together_count_and_another_subscription_s_do_not() -> None:
    admissions = Admissions(3, Counter({ONE: 1}).__getitem__)
    with admissions.begin() as first, admissions.begin() as second:
        assert first.may_begin(ONE)
        assert second.may_begin(ONE)
        assert not first.may_begin(ONE)
        assert not second.may_begin(ONE)
        assert second.may_begin(OTHER)


def test_what_was_begun_is_not_counted_twice_while_the_rest_is_being_begun() -> None:
    under_way = Counter[object]()
    admissions = Admissions(4, under_way.__getitem__)
    with admissions.begin() as first, admissions.begin() as second:
        assert [first.may_begin(ONE) for _ in range(2)] == [True, True]
        for _ in range(2):
            under_way[ONE] += 1
            first.begun(ONE)
        assert [second.may_begin(ONE) for _ in range(3)] == [True, True, False]


def test_what_was_not_begun_gives_its_place_back_with_the_end_of_the_block() -> None:
    admissions = Admissions(2, Counter[object]().__getitem__)
    with admissions.begin() as first:
        assert [first.may_begin(ONE) for _ in range(2)] == [True, True]
        first.begun(ONE)
        first.begun(OTHER)  # begun without having asked
    with admissions.begin() as again:
        assert [again.may_begin(ONE) for _ in range(3)] == [True, True, False]
