"""Our table of refused addresses and IANA's special-purpose address registries do not drift apart."""

import ipaddress
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from domain.urls.rules import REFUSED_NETWORKS, UrlRules, address_refusal

REGISTRIES = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001::/32",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
]
"""The IPv4 and IPv6 special-purpose address registries, without the parts of listed networks."""

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


@pytest.mark.parametrize("text", REGISTRIES + OURS)
def test_every_special_network_is_refused_from_its_first_address_to_its_last(text: str) -> None:
    network = ip_network(text)
    for address in (network[0], network[network.num_addresses // 2], network[-1]):
        assert address_refusal(address, UrlRules()) is not None


def test_every_refused_network_is_special() -> None:
    assert [str(one) for one, _ in REFUSED_NETWORKS if not covered(one, REGISTRIES + OURS)] == []


def test_the_registries_are_those_of_this_python() -> None:
    known = [
        network
        for constants in (ipaddress._IPv4Constants, ipaddress._IPv6Constants)  # type: ignore[attr-defined]
        for network in constants._private_networks
    ]
    assert len(known) > 20
    assert [str(one) for one in known if not covered(one, REGISTRIES)] == []
