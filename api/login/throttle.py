"""Rate limit of log-ins per account and address, which slows password guessing without locking out the owner.

Failed log-ins take tokens from token buckets:
- account × address: limits mistyping, and guessing from one machine, to one attempt per half minute;
- address: limits one machine that tries many accounts;
- account: limits many machines that try one account. It applies only to addresses that have failed on this account
  before, so the owner always has a first attempt from a new address, and never to addresses from which the account has
  logged in.

The buckets are in memory, so that a flood of guesses is no flood of writes. Each API process counts separately and
forgets at a restart, which multiplies the rate by the number of processes: guessing is still hopeless.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil, inf

MOST_ENTRIES = 20_000
"""Maximum number of buckets of each kind; the least recently used one is evicted."""

IPV6_SITE_BITS = 64
"""Prefix length that counts as one address: a machine has all addresses of such a network."""


class Buckets:
    """Token buckets by key: a burst of `capacity` attempts, then one every `seconds`."""

    def __init__(self, capacity: int, seconds: float, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._clock = clock
        # Tokens, and the time at which there were as many. A key without an entry has a full bucket.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def tokens(self, key: Hashable) -> float:
        """Return the number of tokens now, at most `capacity`."""
        if key not in self._buckets:
            return self._capacity
        self._buckets.move_to_end(key)
        tokens, at = self._buckets[key]
        return min(self._capacity, tokens + (self._clock() - at) / self._seconds)

    def wait_seconds(self, key: Hashable) -> float:
        """Return the time until a token is available, 0 if one is."""
        return max(0.0, (1 - self.tokens(key)) * self._seconds)

    def touched(self, key: Hashable) -> bool:
        """Return True if the bucket is not full."""
        return self.tokens(key) < self._capacity

    def add(self, key: Hashable, tokens: float) -> None:
        """Put tokens into the bucket, or take them if the number is negative."""
        self._buckets[key] = (min(self._capacity, self.tokens(key) + tokens), self._clock())
        if len(self._buckets) > MOST_ENTRIES:
            self._buckets.popitem(last=False)


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
            self._pairs.add(pair, -1)
            self._addresses.add(site, -1)
            self._accounts.add(username, -1)
        return wait

    def succeeded(self, username: str, address: str) -> None:
        """Revert the count of a successful attempt and remember the address as known to the account."""
        site = _site(address)
        pair = (username, site)
        self._pairs.add(pair, inf)
        self._addresses.add(site, 1)
        self._accounts.add(username, 1)
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
        return str(parsed.ipv4_mapped or ip_network((parsed, IPV6_SITE_BITS), strict=False).network_address)
    return str(parsed)
