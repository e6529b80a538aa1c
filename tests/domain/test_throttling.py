"""When a receiver that answers 429 is sent to more slowly."""

from domain.delivery.throttling import ANSWERS_REMEMBERED, REFUSED_LEAST, Answers


def slowed_after(answers: list[bool]) -> list[int]:
    """After which of these answers (refused or not), counted from 1, its receiver is to be sent to more slowly."""
    known = Answers()
    return [number for number, refused in enumerate(answers, 1) if known.note(refused=refused)]


def test_a_receiver_that_refuses_all_is_slowed_once_that_is_clear() -> None:
    assert slowed_after([True] * 8) == [REFUSED_LEAST, *range(REFUSED_LEAST + 1, 9)]


def test_single_refusals_among_many_good_answers_slow_nothing() -> None:
    assert slowed_after([number % 10 == 0 for number in range(400)]) == []


def test_every_third_refused_is_too_much() -> None:
    assert slowed_after([number % 3 == 0 for number in range(60)])


def test_what_was_refused_long_ago_is_forgotten() -> None:
    known = Answers()
    for refused in [True] * (REFUSED_LEAST - 1) + [False] * ANSWERS_REMEMBERED:
        assert not known.note(refused=refused)
    assert not known.note(refused=True)


def test_a_good_answer_never_slows() -> None:
    known = Answers()
    for _ in range(20):
        known.note(refused=True)
    assert not known.note(refused=False)
