"""Rules for the URLs and addresses of deliveries, and the normal form in which a URL is stored, signed and sent.

A URL is normalised once, when it is stored, and the result is a fixed point: `host`, `path` and `target` are the very
bytes of the `Host` header and the request line. Addresses are judged again at connect time
(`sending/http/address_guard.py`), because a name may resolve to another address by then.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import idna

Address = IPv4Address | IPv6Address

URL_MAX_CHARACTERS = 2048  # the longest that receivers, proxies and browsers agree on
_DEFAULT_PORTS = {"https": 443, "http": 80}

# Names that resolve to a fixed address by convention.
_WELL_KNOWN_NAMES = {
    **dict.fromkeys(("localhost", "localhost.localdomain"), "127.0.0.1"),
    **dict.fromkeys(("ip6-localhost", "ip6-loopback"), "::1"),
    **dict.fromkeys(("metadata", "metadata.google.internal"), "169.254.169.254"),
    **dict.fromkeys(("instance-data", "instance-data.ec2.internal"), "169.254.169.254"),
}

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH_SAFE = _UNRESERVED | frozenset("!$&'()*+,;=:@/%")
_QUERY_SAFE = _PATH_SAFE | frozenset("?")

# Scripts that a label may mix: the scripts of Japanese, Chinese and Korean, each with Latin.
_MIXABLE = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


_REFUSED = {
    "a cloud metadata address": (
        "169.254.169.254/32",
        "169.254.170.2/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::254/128",
        "fd00:ec2::23/128",
        "fd20:ce::254/128",
        "fd00:42::42/128",
    ),
    "the broadcast address": ("255.255.255.255/32",),
    "an unspecified address": ("0.0.0.0/8",),
    "a private address": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    "a carrier-grade NAT address": ("100.64.0.0/10",),
    "a loopback address": ("127.0.0.0/8",),
    "a link-local address": ("169.254.0.0/16", "fe80::/10"),
    "a reserved address": (
        "192.0.0.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.175.48.0/24",
        "240.0.0.0/4",
        "2001::/23",
        "2620:4f:8000::/48",
    ),
    "a documentation address": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    "a 6to4 relay address": ("192.88.99.0/24",),
    "a benchmarking address": ("198.18.0.0/15",),
    "a multicast address": ("224.0.0.0/4", "ff00::/8"),
    "the unspecified address": ("::/128",),
    "the loopback address": ("::1/128",),
    "an IPv4-mapped address": ("::ffff:0:0/96",),
    "an IPv4-translated address": ("::ffff:0:0:0/96",),
    "an IPv4-compatible address": ("::/96",),
    "a NAT64 address": ("64:ff9b::/96",),
    "a local NAT64 address": ("64:ff9b:1::/48",),
    "a Teredo address": ("2001::/32",),
    "a 6to4 address": ("2002::/16",),
    "a site-local address": ("fec0::/10",),
}
"""Refused networks by reason, unless the operator allows them. The smallest one that contains an address applies.

A table of our own instead of `ipaddress.is_global`, whose result has changed between Python releases, comes without a
reason, and admits addresses that lead into an infrastructure (a cloud's wire server, NAT64 around a private address).
Source: the IANA special-purpose address registries, and the clouds' documented metadata addresses.
"""

REFUSED_NETWORKS = sorted(
    ((ip_network(network), reason) for reason, networks in _REFUSED.items() for network in networks),
    key=lambda refused: refused[0].prefixlen,
    reverse=True,
)

# The only part of IPv6 that is assigned to hosts of the Internet.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})

# Prefixes of addresses with an IPv4 address in their last 32 bits.
_V4_AT_THE_END = tuple(IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class UrlRules:
    """URLs that an installation allows in subscriptions; never a setting of a store.

    `allowed_ports` None means every port. `allowed_networks` are networks that would be refused otherwise; a translated
    IPv6 address (NAT64, 6to4, Teredo, IPv4-mapped) needs both its own network and the IPv4 address in it allowed.
    """

    allow_http: bool = False
    allowed_ports: frozenset[int] | None = None
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()


BLOCKED_REMEDY = "use a public one, or have its network allowed (ALLOWED_NETWORKS)"


@dataclass(frozen=True, slots=True)
class NormalisedUrl:
    """A URL in the form that is stored, signed and sent.

    `host` is the `Host` header (punycode, `[…]` around IPv6, the port only when it is not the scheme's default),
    `hostname` the bare name or address, `path` the percent-encoded path without the query, at least `/`, and `target`
    path and query as on the request line.
    """

    url: str
    scheme: str
    host: str
    hostname: str
    port: int
    path: str
    target: str


class UrlRefused(ValueError):  # noqa: N818 - the name states the fate of the URL
    """A URL that is refused as a destination. `code` is a stable word, `message` names the problem and the remedy."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def normalise_url(url: str, rules: UrlRules) -> NormalisedUrl:
    """Return the normal form of `url`; raises UrlRefused. Normalising the result again changes nothing."""
    shape = _shape(url)
    scheme = shape["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        allowed = "https:// or http://" if rules.allow_http else "https://"
        raise UrlRefused("scheme", f"the URL starts with {allowed}, not with {scheme}://")
    if scheme == "http" and not rules.allow_http:
        raise UrlRefused("scheme", "plain http is not allowed by this installation; use https")
    host_text, port = _split_authority(shape["authority"], _DEFAULT_PORTS[scheme])
    if rules.allowed_ports is not None and port not in rules.allowed_ports:
        allowed = ", ".join(str(number) for number in sorted(rules.allowed_ports))
        raise UrlRefused("port", f"port {port} is not allowed by this installation; allowed: {allowed}")
    hostname = _normalise_host(host_text, rules)
    path = _remove_dot_segments(_encode(shape["path"], _PATH_SAFE)) or "/"
    query = _encode(shape["query"] or "", _QUERY_SAFE)
    target = f"{path}?{query}" if query else path
    host = f"[{hostname}]" if ":" in hostname else hostname
    if port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    normal = f"{scheme}://{host}{target}"
    if len(normal) > URL_MAX_CHARACTERS:
        raise UrlRefused("too_long", f"the URL has more than {URL_MAX_CHARACTERS} characters once percent-encoded")
    return NormalisedUrl(normal, scheme, host, hostname, port, path, target)


def is_listed(hostname: str, listed: Collection[str | IPv4Network | IPv6Network]) -> bool:
    """Return True if a name, or a name above it, is listed, or a network of a literal address."""
    try:
        address = ip_address(hostname)
    except ValueError:
        return any(f".{hostname}".endswith(f".{one}") for one in listed if isinstance(one, str))
    return any(address in one for one in listed if not isinstance(one, str))


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host as written, and port of a URL that `normalise_url` accepts."""
    shape = _shape(url)
    scheme = shape["scheme"].lower()
    return scheme, *_split_authority(shape["authority"], _DEFAULT_PORTS[scheme])


def address_refusal(address: Address, rules: UrlRules) -> str | None:
    """Return the reason for refusing the address ("127.0.0.1 is a loopback address (127.0.0.0/8)"), or None."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return f"{address} carries a zone id"
        # An allow-list with a translating prefix must not open every IPv4 network behind it.
        embedded = _embedded_v4(address)
        inner = None if embedded is None else _range_of(embedded, rules)
        if inner is not None:
            return f"{address} leads to {embedded}, which is {inner}"
    found = _range_of(address, rules)
    return None if found is None else f"{address} is {found}"


def _range_of(address: Address, rules: UrlRules) -> str | None:
    if any(address.version == network.version and address in network for network in rules.allowed_networks):
        return None
    for network, reason in REFUSED_NETWORKS:
        if address.version == network.version and address in network:
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


def _shape(url: str) -> re.Match[str]:
    if len(url) > URL_MAX_CHARACTERS:
        raise UrlRefused("too_long", f"the URL has more than {URL_MAX_CHARACTERS} characters")
    for character in url:
        if character.isspace() or unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            raise UrlRefused(
                "character", f"the URL contains U+{ord(character):04X}; percent-encode spaces and control characters"
            )
    if "\\" in url:
        raise UrlRefused("character", "the URL contains a backslash; use / or %5C")
    if "#" in url:
        raise UrlRefused("fragment", "the URL has a fragment (#…), which is never sent; leave it out")
    shape = _SHAPE.fullmatch(url)
    if shape is None:
        raise UrlRefused("syntax", "not an absolute URL of the form https://host/path")
    if _PERCENT.search(shape["path"] + (shape["query"] or "")):
        raise UrlRefused(
            "percent", "a % in path or query is followed by two hexadecimal digits; write %25 for a bare %"
        )
    return shape


def _split_authority(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise UrlRefused("userinfo", "the URL carries a user or password; send credentials as a header instead")
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        host += bracket
        if not bracket or (rest and not rest.startswith(":")):
            raise UrlRefused("host", "an IPv6 address is written in brackets: https://[2001:db8::1]:8443/")
        port_text = rest[1:]
    else:
        host, _, port_text = authority.partition(":")
    if not host:
        raise UrlRefused("host", "the URL has no host; write https://host/path")
    if not port_text:
        return host, default_port
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 0 < int(port_text) <= 65535):
        raise UrlRefused("port", "the port is a number from 1 to 65535")
    return host, int(port_text)


def _normalise_host(host: str, rules: UrlRules) -> str:
    if "%" in host:
        kind = "zone_id" if host.startswith("[") else "host"
        raise UrlRefused(kind, "the host carries a zone id or percent-encoding; write the plain name or address")
    if host.startswith("["):
        return _judged(_ipv6(host[1:-1]), rules)
    if host.endswith("."):
        raise UrlRefused("trailing_dot", "the host ends with a dot; leave it out")
    name = host.lower() if host.isascii() else _to_ascii(host)
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused(
            "host", "the host is not a valid name: labels of 1 to 63 letters, digits and hyphens, 253 in all"
        )
    if _NUMBER.fullmatch(labels[-1]):
        return _judged(_ipv4(name), rules)
    for label in labels:
        if label.startswith("xn--"):
            _check_scripts(_from_punycode(label))
    well_known = _WELL_KNOWN_NAMES.get("localhost" if labels[-1] == "localhost" else name)
    if well_known is not None:
        address = IPv6Address(well_known) if ":" in well_known else IPv4Address(well_known)
        refusal = address_refusal(address, rules)
        if refusal is not None:
            message = f"{name} stands for an address that is not delivered to: {refusal}; {BLOCKED_REMEDY}"
            raise UrlRefused("blocked_address", message)
    return name


def _ipv4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise UrlRefused(
            "ipv4_form", "an IPv4 address is written as four decimal numbers without leading zeros, as in 198.51.100.7"
        ) from None


def _ipv6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise UrlRefused("host", "between the brackets stands no IPv6 address") from None


def _judged(address: Address, rules: UrlRules) -> str:
    refusal = address_refusal(address, rules)
    if refusal is not None:
        raise UrlRefused("blocked_address", f"{refusal}; {BLOCKED_REMEDY}")
    return str(address)


def _to_ascii(host: str) -> str:
    # Strict IDNA 2008 on purpose: the lenient mapping turns full-width digits, circled letters and ideographic dots
    # into 127.0.0.1 and the like, past every check that a reader of the URL would make.
    for character in host:
        # IDNA 2008 refuses the Kelvin sign; NFC, applied for accents, would convert it to a k first.
        if unicodedata.normalize("NFC", character) != character:
            raise UrlRefused("idna", f"the host contains U+{ord(character):04X}, which no name may hold")
    try:
        return idna.encode(unicodedata.normalize("NFC", host).lower(), strict=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise UrlRefused("idna", f"the host is not a valid internationalised name: {error}") from None


def _from_punycode(label: str) -> str:
    try:
        text = idna.ulabel(label)
    except (idna.IDNAError, UnicodeError) as error:
        raise UrlRefused("idna", f"{label} is not valid punycode: {error}") from None
    if text.isascii():
        raise UrlRefused("idna", f"{label} is punycode for a plain name; write it plainly")
    return text


def _check_scripts(label: str) -> None:
    scripts = {
        unicodedata.name(character, "UNKNOWN").split(" ")[0]
        for character in label
        if unicodedata.category(character) in {"Lu", "Ll", "Lt", "Lo"}
    }
    if len(scripts) > 1 and not any(scripts <= allowed for allowed in _MIXABLE):
        names = ", ".join(sorted(script.title() for script in scripts))
        raise UrlRefused("mixed_script", f"one part of the host mixes scripts that look alike ({names})")


def _encode(text: str, safe: frozenset[str]) -> str:
    if not text.isascii() or not safe.issuperset(text):
        text = "".join(
            character if character in safe else "".join(f"%{byte:02X}" for byte in character.encode())
            for character in text
        )
    return _ESCAPED.sub(_canonical_escape, text) if "%" in text else text


def _canonical_escape(escape: re.Match[str]) -> str:
    # RFC 3986, 6.2.2: an escaped unreserved character equals the bare one. Receivers and proxies convert between the
    # two, so only the bare form gives the same signature on both sides.
    character = chr(int(escape[0][1:], 16))
    return character if character in _UNRESERVED else escape[0].upper()


def _remove_dot_segments(path: str) -> str:
    if "/." not in path:
        return path
    result: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if result:
                result.pop()
        elif segment != ".":
            result.append(segment)
    if segments[-1] in {".", ".."}:
        result.append("")
    return "/" + "/".join(result)
