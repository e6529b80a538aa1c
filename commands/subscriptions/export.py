"""Export of a store's subscriptions as a file for `subscriptions apply`: the same state gives the same text."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from api.subscription_sets.models import StoredSubscription
from commands.subscriptions.file import VERSION

PLAIN = re.compile(r"(?!(?i:true|false|null|yes|no|on|off|y|n)\Z)[^\W\d_](?:[\w./?=&%+@~()-]|:(?=[\w/])| (?=[\w(]))*")
"""Text that YAML reads as itself without quotes. Begins with a letter; a colon or space must not end the scalar."""

HEAD = """\
# The webhook subscriptions of store {store}, written by `loyalty-webhooks subscriptions export`.
#
#   loyalty-webhooks subscriptions diff FILE     shows the differences between store and file
#   loyalty-webhooks subscriptions apply FILE    applies the file to the store in one transaction
#
# Event and name identify the subscription of an entry, or an id if they are ambiguous. Omitted fields have their
# default. Header values are never in the file: {{keep: true}} keeps the stored value, {{fromEnv: NAME}} and
# {{fromFile: PATH}} name the source of a new one. Only the store creates signing keys.
version: {version}
store: {store_text}
"""


def export_text(store: str, subscriptions: Sequence[StoredSubscription]) -> str:
    """Return the whole file."""
    head = HEAD.format(store=store, version=VERSION, store_text=_text(store))
    if not subscriptions:
        return head + "subscriptions: []\n"
    names = Counter((subscription.event_name, subscription.name) for subscription in subscriptions)
    lines = ["subscriptions:"]
    for subscription in subscriptions:
        by_name = subscription.name is not None and names[subscription.event_name, subscription.name] == 1
        for number, line in enumerate(_entry(subscription, by_name=by_name)):
            lines.append(f"  {'  ' if number else '- '}{line}")
    return head + "\n".join(lines) + "\n"


def _entry(subscription: StoredSubscription, *, by_name: bool) -> Iterator[str]:
    """Yield the lines of one entry, without fields at their default."""
    yield f"eventName: {_text(subscription.event_name)}"
    if subscription.name is not None:
        yield f"name: {_text(subscription.name)}"
    if not by_name:
        why = "it has no name" if subscription.name is None else "others have this event and name"
        yield f"webhookSubscriptionId: {subscription.webhook_subscription_id}  # {why}"
    yield f"url: {_text(subscription.url)}"
    if subscription.legacy:
        yield "legacy: true"
    if subscription.headers:
        yield "headers:"
        for header in subscription.headers:
            yield f"  - headerName: {_text(header.header_name)}"
            yield "    headerValue: {keep: true}"
    if subscription.hmac_enabled:
        yield "hmacEnabled: true"
    if subscription.active_from is not None:
        yield f"activeFrom: {_instant(subscription.active_from)}"
    if subscription.rate_limit_per_second is not None:
        yield f"rateLimitPerSecond: {subscription.rate_limit_per_second}"
    if subscription.max_concurrency is not None:
        yield f"maxConcurrency: {subscription.max_concurrency}"
    yield from _order(subscription)
    if subscription.retry_schedule is not None:
        yield f"retrySchedule: [{', '.join(map(str, subscription.retry_schedule))}]  # seconds after each failure"


def _order(subscription: StoredSubscription) -> Iterator[str]:
    if subscription.ordered:
        yield "ordered: true"
    if subscription.order_key != "subscription":
        yield f"orderKey: {subscription.order_key}"
    if subscription.after_exhausted != "skip":
        yield f"afterExhausted: {subscription.after_exhausted}"


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(text: str) -> str:
    """Return the text as YAML: plain if that is safe, else quoted with unprintable characters escaped."""
    if PLAIN.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in quoted)


def _escape(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
