"""Which URLs are accepted, what they become, and why the others are refused."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from domain.urls.rules import UrlRefused, UrlRules, address_refusal, normalise_url
from domain.urls.targets import shown_target
from tests.domain.url_vectors import UrlVector, url_vectors

RULES = UrlRules(allow_http=True)
LOCAL = UrlRules(allow_http=True, allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
PORT = 8080


def refusal_at_creation(vector: UrlVector, rules: UrlRules = RULES) -> str:
    """The code with which a new subscription's URL is refused; `address` when only its addresses are, else `ok`."""
    try:
        normalise_url(vector.at(PORT), rules)
    except UrlRefused as refused:
        return refused.code
    refusals = [address_refusal(ip_address(address), rules) for address in vector.addresses]
    return "address" if any(refusals) else "ok"


@pytest.mark.parametrize("vector", url_vectors(), ids=str)
def test_each_url_of_the_table_is_judged_at_creation(vector: UrlVector) -> None:
    assert refusal_at_creation(vector) == vector.verdict, vector.url


@pytest.mark.parametrize("vector", [vector for vector in url_vectors() if vector.verdict != "ok"], ids=str)
def test_each_refusal_says_what_is_wrong_in_printable_words(vector: UrlVector) -> None:
    try:
        normalise_url(vector.at(PORT), RULES)
        reasons = [address_refusal(ip_address(address), RULES) for address in vector.addresses]
        message = next(reason for reason in reasons if reason)
    except UrlRefused as refused:
        message = refused.message
    assert len(message) > 20
    assert message.isprintable()


def test_the_table_has_150_refusals_and_30_urls_that_pass() -> None:
    verdicts = [vector.verdict for vector in url_vectors()]
    assert sum(verdict != "ok" for verdict in verdicts) >= 150
    assert sum(verdict == "ok" for verdict in verdicts) >= 30
    assert len({(vector.url, vector.addresses) for vector in url_vectors()}) == len(verdicts), "no line stands twice"


@pytest.mark.parametrize("vector", url_vectors(), ids=str)
def test_each_url_has_a_displayed_form_without_its_query(vector: UrlVector) -> None:
    shown = shown_target(vector.at(PORT))  # also of a stored URL that a later parser refuses
    assert "?" not in shown
    if vector.verdict == "ok":
        normal = normalise_url(vector.at(PORT), RULES)
        assert shown_target(normal.url) == normal.host + normal.path


@pytest.mark.parametrize("vector", [vector for vector in url_vectors() if vector.verdict == "ok"], ids=str)
def test_the_normal_form_is_a_fixed_point_that_http_libraries_leave_alone(vector: UrlVector) -> None:
    normal = normalise_url(vector.at(PORT), RULES)
    assert normal.url == (vector.note or vector.url)
    assert normalise_url(normal.url, RULES) == normal
    assert normal.url == f"{normal.scheme}://{normal.host}{normal.target}"
    assert normal.path == normal.target.partition("?")[0]
    wire = URL(normal.url, encoded=True)
    assert wire.raw_path_qs == normal.target
    assert wire.raw_host == normal.hostname
    assert httpx.URL(normal.url).netloc.decode() == normal.host


@pytest.mark.parametrize(
    ("url", "rules", "code"),
    [
        ("http://example.com/", UrlRules(), "scheme"),
        ("https://example.com:8443/", UrlRules(allowed_ports=frozenset({443})), "port"),
        ("http://example.com/", UrlRules(allow_http=True, allowed_ports=frozenset({443})), "port"),
        ("https://example.com/", UrlRules(allowed_ports=frozenset({443})), None),
        ("https://example.com:8443/", UrlRules(allowed_ports=frozenset({443, 8443})), None),
        ("https://example.com:8443/", UrlRules(), None),
    ],
)
def test_http_and_ports_are_a_matter_of_settings(url: str, rules: UrlRules, code: str | None) -> None:
    if code is None:
        normalise_url(url, rules)
        return
    with pytest.raises(UrlRefused) as refused:
        normalise_url(url, rules)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "a.localhost", "ip6-localhost", "localhost.localdomain"]
)
def test_the_allow_list_of_networks_opens_what_it_names(host: str) -> None:
    assert normalise_url(f"http://{host}:1234/", LOCAL).host == f"{host}:1234"


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "[::ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "0.0.0.0", "2130706433", "127.1"],
)
def test_the_allow_list_of_networks_opens_nothing_else(host: str) -> None:
    with pytest.raises(UrlRefused):
        normalise_url(f"http://{host}:1234/", LOCAL)


def test_a_translating_prefix_on_the_allow_list_does_not_open_the_networks_behind_it() -> None:
    nat64 = UrlRules(allowed_networks=(ip_network("64:ff9b::/96"),))
    assert address_refusal(ip_address("64:ff9b::808:808"), nat64) is None
    assert address_refusal(ip_address("64:ff9b::a00:1"), nat64) == (
        "64:ff9b::a00:1 leads to 10.0.0.1, which is a private address (10.0.0.0/8)"
    )
    both = UrlRules(allowed_networks=(ip_network("64:ff9b::/96"), ip_network("10.0.0.0/8")))
    assert address_refusal(ip_address("64:ff9b::a00:1"), both) is None


def test_a_refusal_names_the_address_its_kind_and_its_network() -> None:
    assert address_refusal(ip_address("169.254.169.254"), RULES) == (
        "169.254.169.254 is a cloud metadata address (169.254.169.254/32)"
    )
    assert address_refusal(ip_address("fe80::1%eth0"), RULES) == "fe80::1%eth0 carries a zone id"


@pytest.mark.parametrize(
    ("url", "rules", "message"),
    [
        (
            "https://10.1.1.1/",
            RULES,
            "10.1.1.1 is a private address (10.0.0.0/8); use a public one, or have its network",
        ),
        ("https://localhost/", RULES, "(127.0.0.0/8); use a public one, or have its network"),
        ("ftp://example.com/", UrlRules(), "the URL starts with https://, not with ftp://"),
        ("ftp://example.com/", RULES, "the URL starts with https:// or http://, not with ftp://"),
    ],
)
def test_a_refusal_says_what_may_be_used_instead(url: str, rules: UrlRules, message: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        normalise_url(url, rules)
    assert message in refused.value.message


@given(st.ip_addresses())
def test_no_address_passes_that_the_standard_library_calls_private(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert address_refusal(address, RULES) is not None


@given(st.text(max_size=60))
def test_any_text_is_refused_or_becomes_a_fixed_point(text: str) -> None:
    for url in (text, f"https://{text}", f"https://example.com/{text}", f"https://example.com/?{text}"):
        try:
            normal = normalise_url(url, RULES)
        except UrlRefused:
            continue
        assert normalise_url(normal.url, RULES) == normal
        assert re.fullmatch(r"[!-~]+", normal.url), "printable ASCII without a space: no way into the request line"
        assert URL(normal.url, encoded=True).raw_path_qs == normal.target


@given(st.text(alphabet="abcxyz0123456789.-_%[]:@/\\?#äаß。１", max_size=24))
def test_any_authority_is_refused_or_is_what_other_parsers_read(authority: str) -> None:
    try:
        normal = normalise_url(f"https://{authority}/", RULES)
    except UrlRefused:
        return
    assert URL(normal.url).raw_host == normal.hostname
    assert httpx.URL(normal.url).raw_host.decode() == normal.hostname


def test_a_url_of_more_than_2048_characters_is_refused_also_once_encoded() -> None:
    assert normalise_url("https://example.com/" + "a" * 2028, RULES).url
    for url in ("https://example.com/" + "a" * 2029, "https://example.com/" + "ä" * 1000):
        with pytest.raises(UrlRefused) as refused:
            normalise_url(url, RULES)
        assert refused.value.code == "too_long"
