"""The throttle of log-ins, by a clock of the test's own."""

import pytest

from api.login.throttle import MOST_ENTRIES, LoginThrottle

OWNER, GUESSER = "192.0.2.1", "198.51.100.7"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> LoginThrottle:
    return LoginThrottle(clock)


def tries(throttle: LoginThrottle, username: str, address: str, most: int = 1000) -> int:
    """How many tries go ahead, one after the other, each failing."""
    return next((number for number in range(most) if throttle.begin(username, address)), most)


def test_five_tries_at_once_then_one_every_half_minute(throttle: LoginThrottle, clock: Clock) -> None:
    assert tries(throttle, "a", GUESSER) == 5
    assert throttle.begin("a", GUESSER) == 30
    clock.now += 29.9
    assert throttle.begin("a", GUESSER) == 1
    clock.now += 0.2
    assert tries(throttle, "a", GUESSER) == 1
    clock.now += 30 * 100
    assert tries(throttle, "a", GUESSER) == 5


def test_a_refused_try_costs_nothing(throttle: LoginThrottle, clock: Clock) -> None:
    tries(throttle, "a", GUESSER)
    for _ in range(1000):
        throttle.begin("a", GUESSER)
    clock.now += 30
    assert throttle.begin("a", GUESSER) == 0


def test_the_owner_gets_in_while_one_address_guesses(throttle: LoginThrottle) -> None:
    tries(throttle, "a", GUESSER)
    assert throttle.begin("a", OWNER) == 0


def test_an_address_that_tries_many_accounts_is_slowed(throttle: LoginThrottle) -> None:
    assert sum(throttle.begin(f"account-{number}", GUESSER) == 0 for number in range(100)) == 30
    assert throttle.begin("one more", OWNER) == 0


def test_many_addresses_on_one_account_are_slowed_after_their_first_try(throttle: LoginThrottle) -> None:
    machines = [f"198.51.{number // 250}.{number % 250}" for number in range(400)]
    assert all(throttle.begin("a", machine) == 0 for machine in machines)
    assert not any(throttle.begin("a", machine) == 0 for machine in machines)


def test_the_owner_gets_in_while_many_addresses_guess(throttle: LoginThrottle) -> None:
    for number in range(400):
        for _ in range(2):
            throttle.begin("a", f"198.51.{number // 250}.{number % 250}")
    assert throttle.begin("a", OWNER) == 0


def test_an_address_known_to_be_the_owners_is_never_bound_by_what_others_do(throttle: LoginThrottle) -> None:
    assert throttle.begin("a", OWNER) == 0
    throttle.succeeded("a", OWNER)
    for number in range(400):
        throttle.begin("a", f"198.51.{number // 250}.{number % 250}")
    for number in range(100):
        throttle.begin(f"account-{number}", OWNER)
    assert tries(throttle, "a", OWNER) == 5


def test_success_forgets_the_slips_before_it(throttle: LoginThrottle) -> None:
    for _ in range(20):
        for _ in range(3):
            assert throttle.begin("a", OWNER) == 0
        throttle.succeeded("a", OWNER)


def test_an_ipv6_network_is_one_machine(throttle: LoginThrottle) -> None:
    assert sum(throttle.begin("a", f"2001:db8:1:1::{number:x}") == 0 for number in range(1, 50)) == 5
    assert throttle.begin("a", "2001:db8:1:2::1") == 0


def test_an_ipv4_address_is_the_same_in_ipv6_clothes(throttle: LoginThrottle) -> None:
    tries(throttle, "a", GUESSER)
    assert throttle.begin("a", f"::ffff:{GUESSER}") > 0


def test_memory_is_bounded(throttle: LoginThrottle) -> None:
    for number in range(MOST_ENTRIES + 1000):
        throttle.begin(f"account-{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(throttle._pairs._buckets) <= MOST_ENTRIES
