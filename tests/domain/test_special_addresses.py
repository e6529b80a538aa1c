"""Our table of refused addresses and IANA's special-purpose address registries do not drift apart."""

import ipaddress
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from domain.urls.rules import REFUSED_NETWORKS, UrlRules, address_refusal

PYTHON = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.170/31",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "fc00::/7",
    "fe80::/10",
]
"""Networks that `ipaddress` of the newest Python calls private: CPython's main branch, and 3.13.5, as seen in November
2026. Older releases know fewer."""

PYTHON_EXCEPTIONS = [
    "192.0.0.9/32",
    "192.0.0.10/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
]
"""Parts of them that it calls global, from the same source: anycast services and identifiers, which receive no webhooks
and are refused all the same."""

REGISTRIES = [
    *PYTHON,
    "100.64.0.0/10",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.175.48.0/24",
    "64:ff9b::/96",
    "100:0:0:1::/64",
    "2001::/32",
    "2620:4f:8000::/48",
    "5f00::/16",
]
"""The IPv4 and IPv6 special-purpose address registries, without the parts of listed networks: those of Python, and
those that it does not call private, because they are shared, global, obsolete or newer (100:0:0:1::/64, RFC 9780)."""

OURS = [
    "168.63.129.16/32",
    "224.0.0.0/4",
    "ff00::/8",
    "::/96",
    "::ffff:0:0:0/96",
    "fec0::/10",
]
"""Refused beyond the registries: metadata services of clouds, multicast, IPv6 forms that lead to IPv4, site-local."""

Network = IPv4Network | IPv6Network


def covered(network: Network, by: list[str]) -> bool:
    return any(network.version == (one := ip_network(text)).version and network.subnet_of(one) for text in by)  # type: ignore[arg-type]  # the same version


@pytest.mark.parametrize("text", REGISTRIES + PYTHON_EXCEPTIONS + OURS)
def test_every_special_network_is_refused_from_its_first_address_to_its_last(text: str) -> None:
    network = ip_network(text)
    for address in (network[0], network[network.num_addresses // 2], network[-1]):
        assert address_refusal(address, UrlRules()) is not None


def test_every_refused_network_is_special() -> None:
    assert [str(one) for one, _ in REFUSED_NETWORKS if not covered(one, REGISTRIES + OURS)] == []


@pytest.mark.parametrize(
    ("attribute", "newest"), [("_private_networks", PYTHON), ("_private_networks_exceptions", PYTHON_EXCEPTIONS)]
)
def test_this_python_knows_no_more_than_the_newest_one(attribute: str, newest: list[str]) -> None:
    """A failure means that the registries have grown: extend the lists here, and with them the refused networks."""
    known = [
        network
        for constants in (ipaddress._IPv4Constants, ipaddress._IPv6Constants)  # type: ignore[attr-defined]
        for network in getattr(constants, attribute, ())  # old releases have no exceptions
    ]
    assert known or sys.version_info < (3, 12, 4)
    assert [str(one) for one in known if not covered(one, newest)] == []
