"""Guessing passwords is slowed down, per account and address, without giving anyone a way to lock the owner out.

Failed log-ins take tokens from buckets that fill again with time:
- account × address: whoever mistypes, or guesses from one machine, is slowed to one try per half minute;
- address: one machine that tries many accounts;
- account: many machines that try one account. It binds only addresses that have failed on this account before, so the
  owner at a new address always has a first try, and never binds addresses from which the account has logged in.

Counted in memory: a flood of guesses must not become a flood of writes. Each API process counts for itself and forgets
when it restarts, which multiplies the pace by the number of processes and leaves guessing hopeless all the same.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil

MOST_ENTRIES = 20_000  # of each kind; the least recently used is forgotten
IPV6_SITE_BITS = 64  # one machine has all addresses of such a network


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """Token buckets by key: `capacity` tries at once, one more every `seconds`."""

    def __init__(self, capacity: int, seconds: float, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def _bucket(self, key: Hashable) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._capacity, now)
            if len(self._buckets) > MOST_ENTRIES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.tokens = min(self._capacity, bucket.tokens + (now - bucket.at) / self._seconds)
        bucket.at = now
        return bucket

    def wait_seconds(self, key: Hashable) -> float:
        """How long until there is a token; 0 when there is one."""
        return max(0.0, (1 - self._bucket(key).tokens) * self._seconds) if key in self._buckets else 0.0

    def touched(self, key: Hashable) -> bool:
        """Whether tokens are missing."""
        return key in self._buckets and self._bucket(key).tokens < self._capacity

    def take(self, key: Hashable) -> None:
        """Take a token."""
        self._bucket(key).tokens -= 1

    def give_back(self, key: Hashable) -> None:
        """Put a token back."""
        bucket = self._bucket(key)
        bucket.tokens = min(self._capacity, bucket.tokens + 1)

    def fill(self, key: Hashable) -> None:
        """Forget what was taken."""
        self._buckets.pop(key, None)


class LoginThrottle:
    """Says whether a log-in may be tried. A try counts as failed from its start until `succeeded` takes that back, so
    many at once do not slip through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._pairs = Buckets(5, 30, clock)
        self._addresses = Buckets(30, 10, clock)
        self._accounts = Buckets(20, 15, clock)
        self._known: OrderedDict[Hashable, None] = OrderedDict()

    def begin(self, username: str, address: str) -> int:
        """Count a try; 0 when it may go ahead, else the seconds to wait (and it is not counted)."""
        site = _site(address)
        pair = (username, site)
        waits = [self._pairs.wait_seconds(pair)]
        if pair not in self._known:
            waits.append(self._addresses.wait_seconds(site))
            if self._pairs.touched(pair):
                waits.append(self._accounts.wait_seconds(username))
        wait = ceil(max(waits))
        if wait == 0:
            self._pairs.take(pair)
            self._addresses.take(site)
            self._accounts.take(username)
        return wait

    def succeeded(self, username: str, address: str) -> None:
        """The try was right: it counts for nothing, and this address is known to be the account's."""
        site = _site(address)
        pair = (username, site)
        self._pairs.fill(pair)
        self._addresses.give_back(site)
        self._accounts.give_back(username)
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MOST_ENTRIES:
            self._known.popitem(last=False)


def _site(address: str) -> str:
    """Whom an address stands for: itself, of IPv6 its network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> (128 - IPV6_SITE_BITS) << (128 - IPV6_SITE_BITS)))
    return str(parsed)
