"""Rate limit of log-ins per account and address, which slows password guessing without locking out the owner.

Failed log-ins take tokens from token buckets:
- account × address: limits mistyping, and guessing from one machine, to one attempt per half minute;
- address: limits one machine that tries many accounts;
- account: limits many machines that try one account. It applies only to addresses that have failed on this account
  before, so the owner always has a first attempt from a new address, and never to addresses from which the account has
  logged in.

The buckets are in memory, so that a flood of guesses does not become a flood of writes. Each API process counts
separately and forgets at a restart. That multiplies the rate by the number of processes, which still makes guessing
hopeless.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil

MOST_ENTRIES = 20_000
"""Maximum number of buckets of each kind; the least recently used one is evicted."""

IPV6_SITE_BITS = 64
"""Prefix length that counts as one address: a machine has all addresses of such a network."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """Token buckets by key: a burst of `capacity` attempts, then one every `seconds`."""

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
        """Return the time until a token is available, 0 if one is."""
        return max(0.0, (1 - self._bucket(key).tokens) * self._seconds) if key in self._buckets else 0.0

    def touched(self, key: Hashable) -> bool:
        """Return True if the bucket is not full."""
        return key in self._buckets and self._bucket(key).tokens < self._capacity

    def take(self, key: Hashable) -> None:
        """Take a token."""
        self._bucket(key).tokens -= 1

    def give_back(self, key: Hashable) -> None:
        """Put a token back."""
        bucket = self._bucket(key)
        bucket.tokens = min(self._capacity, bucket.tokens + 1)

    def fill(self, key: Hashable) -> None:
        """Fill the bucket."""
        self._buckets.pop(key, None)


class LoginThrottle:
    """Admission control of log-ins.

    An attempt counts as failed from its start until `succeeded` reverts that, so concurrent attempts are limited too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._pairs = Buckets(5, 30, clock)
        self._addresses = Buckets(30, 10, clock)
        self._accounts = Buckets(20, 15, clock)
        self._known: OrderedDict[Hashable, None] = OrderedDict()

    def begin(self, username: str, address: str) -> int:
        """Count an attempt and return 0, or return the seconds to wait without counting it."""
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
        """Revert the count of a successful attempt and remember the address as known to the account."""
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
    """Return the address, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> (128 - IPV6_SITE_BITS) << (128 - IPV6_SITE_BITS)))
    return str(parsed)
