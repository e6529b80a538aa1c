"""IP address ranges that are refused as destinations, unless the operator's allow-list names them.

A table of our own instead of `ipaddress.is_global`, whose result has changed between Python releases, comes without a
reason, and admits addresses that lead into an infrastructure (a cloud's wire server, NAT64 around a private address).
Source: the IANA special-purpose address registries, and the clouds' documented metadata addresses.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Ordered from the most specific: the first network that contains the address gives the reason.
_REFUSED_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("169.254.169.254/32", "a cloud metadata address"),
        ("169.254.170.2/32", "a cloud metadata address"),
        ("100.100.100.200/32", "a cloud metadata address"),
        ("168.63.129.16/32", "a cloud metadata address"),
        ("192.0.0.192/32", "a cloud metadata address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.31.196.0/24", "a reserved address"),
        ("192.52.193.0/24", "a reserved address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "a reserved address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)

_REFUSED_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("fd00:ec2::254/128", "a cloud metadata address"),
        ("fd00:ec2::23/128", "a cloud metadata address"),
        ("fd20:ce::254/128", "a cloud metadata address"),
        ("fd00:42::42/128", "a cloud metadata address"),
        ("::/128", "the unspecified address"),
        ("::1/128", "the loopback address"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a local NAT64 address"),
        ("2001::/32", "a Teredo address"),
        ("2001:db8::/32", "a documentation address"),
        ("2001::/23", "a reserved address"),
        ("2002::/16", "a 6to4 address"),
        ("2620:4f:8000::/48", "a reserved address"),
        ("3fff::/20", "a documentation address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)

# The only part of IPv6 that is assigned to hosts of the Internet.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})

# Prefixes of addresses with an IPv4 address in their last 32 bits.
_V4_AT_THE_END = tuple(IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")


def address_refusal_in(address: Address, allowed: tuple[Network, ...]) -> str | None:
    """Return the reason for refusing the address, or None. `allowed` are the operator's exceptions."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return f"{address} carries a zone id"
        # An allow-list with a translating prefix must not open every IPv4 network behind it.
        embedded = _embedded_v4(address)
        inner = None if embedded is None else _range_of(embedded, allowed)
        if inner is not None:
            return f"{address} leads to {embedded}, which is {inner}"
    found = _range_of(address, allowed)
    return None if found is None else f"{address} is {found}"


def _range_of(address: Address, allowed: tuple[Network, ...]) -> str | None:
    if any(address.version == network.version and address in network for network in allowed):
        return None
    refused = _REFUSED_V4 if isinstance(address, IPv4Address) else _REFUSED_V6
    for network, reason in refused:
        if address in network:
            return f"{reason} ({network})"
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL_UNICAST:
            return f"a reserved address (outside {_GLOBAL_UNICAST})"
        if _interface_prefix(address) in _ISATAP:
            return "an ISATAP address"
    return None


def _embedded_v4(address: IPv6Address) -> IPv4Address | None:
    value = int(address)
    if value <= 1:
        return None
    if any(address in network for network in _V4_AT_THE_END) or _interface_prefix(address) in _ISATAP:
        return IPv4Address(value & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address((value >> 80) & 0xFFFFFFFF)
    if address in _TEREDO:
        return IPv4Address(~value & 0xFFFFFFFF)
    if address in _LOCAL_NAT64:
        # RFC 6052 with a /48 prefix: two bytes before the reserved ninth byte, two after it.
        return IPv4Address(((value >> 64) & 0xFFFF) << 16 | (value >> 40) & 0xFFFF)
    return None


def _interface_prefix(address: IPv6Address) -> int:
    return (int(address) >> 32) & 0xFFFFFFFF
