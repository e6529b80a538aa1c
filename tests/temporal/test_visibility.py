"""What the Temporal Web UI is given fits into what Temporal holds, encrypted too."""

from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from domain.events.catalogue import CATALOGUE
from domain.urls.targets import TARGET_CHARACTERS, shown_target
from temporal.codec import data_converter
from temporal.messages import EventRef, FirstAttempt, FirstAttempts
from temporal.visibility import (
    MOST_ROWS,
    RECEIVER_HOSTS,
    SUMMARY_CHARACTERS,
    as_summary,
    attributes_to,
    details_table,
    event_summary,
)

DETAILS_BYTES = 20_000
"""Maximum size of static details as stored in Temporal: encoded, and encrypted if there are keys."""

SUMMARY_BYTES = 400
"""Maximum size of a summary as stored in Temporal."""

LONGEST_TARGET = shown_target("https://receiver.example.com/" + "p" * 1900)
LONGEST_STORE_CODE = "s" * 63
LONGEST_EVENT_NAME = max(CATALOGUE, key=len)
ENCRYPTING = [Fernet.generate_key().decode()]


async def bytes_held(text: str, keys: list[str]) -> int:
    """Of a text in Temporal, what names its encoding included."""
    [payload] = await data_converter(keys).encode([text])
    return payload.ByteSize()


@pytest.mark.parametrize("keys", [[], ENCRYPTING], ids=["in clear", "encrypted"])
async def test_a_table_of_many_deliveries_with_the_longest_targets_fits(keys: list[str]) -> None:
    assert len(LONGEST_TARGET) == TARGET_CHARACTERS
    deliveries = [FirstAttempt(str(uuid4()), LONGEST_TARGET, "pending") for _ in range(MOST_ROWS + 1)]
    details = details_table(FirstAttempts(retrying=len(deliveries), deliveries=deliveries))
    assert details.count(LONGEST_TARGET) == MOST_ROWS
    assert await bytes_held(details, keys) <= DETAILS_BYTES


LONGEST_SUMMARIES = {
    "of an event": event_summary([EventRef(LONGEST_STORE_CODE, str(uuid4()), LONGEST_EVENT_NAME)]),
    "of a batch": event_summary([EventRef(LONGEST_STORE_CODE, str(uuid4()), LONGEST_EVENT_NAME)] * 999),
    "of a retry": as_summary(f"{LONGEST_TARGET} · {LONGEST_EVENT_NAME} · {LONGEST_STORE_CODE}"),
    "of a manual attempt": as_summary(f"send-now · {LONGEST_TARGET}"),
    "of a drain": as_summary(f"drain of {LONGEST_EVENT_NAME} · {LONGEST_STORE_CODE} · {LONGEST_TARGET}"),
}


@pytest.mark.parametrize("what", LONGEST_SUMMARIES)
async def test_the_longest_summary_fits(what: str) -> None:
    assert await bytes_held(LONGEST_SUMMARIES[what], ENCRYPTING) <= SUMMARY_BYTES


@pytest.mark.parametrize(
    ("status", "words"),
    [("pending", "retrying, as the activity of this id"), ("exhausted", "gave up"), ("cancelled", "cancelled")],
)
def test_the_table_of_an_event_has_the_panels_words(status: str, words: str) -> None:
    first = FirstAttempts(deliveries=[FirstAttempt("1", "shop.example.com", status)])
    assert details_table(first).endswith(f"| {words} |")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Shop.example.com/hook", "shop.example.com"),
        ("http://127.0.0.1:9000", "127.0.0.1"),
        ("https://[2001:DB8::1]:8443/hook", "2001-db8--1"),
    ],
)
def test_a_receiver_is_found_by_its_host(url: str, host: str) -> None:
    assert attributes_to(shown_target(url), "shop", "CustomerUpdated", hidden=False).get(RECEIVER_HOSTS) == host


def test_a_summary_that_fits_is_shown_whole() -> None:
    assert as_summary("x" * SUMMARY_CHARACTERS) == "x" * SUMMARY_CHARACTERS
    assert as_summary("x" * SUMMARY_CHARACTERS + "y").endswith("x…")
