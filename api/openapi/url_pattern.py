"""The pattern by which the OpenAPI document describes a subscription's URL, as this installation's rules have it.

Every URL that fits is accepted. It says less than the rules accept: addresses and international names are left to the
rules, which no pattern can express.
"""

from domain.urls.rules import UrlRules

URL_MODELS = ("SubscriptionCreate", "SubscriptionEntry", "SubscriptionUpdate")
"""Input models with a field `url`."""

_NO_LOCAL_NAME = r"(?![^/?:]*\.(?:localdomain|localhost|internal)(?:[/?:]|$))"
_HOST = _NO_LOCAL_NAME + r"(?:[a-z0-9]{1,20}(?:-[a-z0-9]{1,20})?\.){1,4}[a-z]{2,20}"
_CHARACTER = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2}"
_PATH = rf"(?:/(?:{_CHARACTER})*)*"
_QUERY = rf"(?:\?(?:{_CHARACTER}|[/?])*)?"


def url_pattern(rules: UrlRules) -> str:
    """The pattern, for ECMA 262 and for Python alike."""
    scheme = "https?" if rules.allow_http else "https"
    port = "(?::[1-9][0-9]{0,3})?"
    if rules.allowed_ports is not None:
        # A scheme's own port may be left out only where it is allowed.
        others = "|".join(str(number) for number in sorted(rules.allowed_ports))
        port = f"(?::(?:{others}))" + ("?" if {443} <= rules.allowed_ports and not rules.allow_http else "")
    return f"^{scheme}://{_HOST}{port}{_PATH}{_QUERY}$"
