"""Events of members' levels."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated

from domain.events.event_type import EventType
from domain.events.families.parts import CUSTOMER_SAMPLE, Customer
from domain.events.fields import ABSENT, LEGACY_ONLY, Data, DateTime, Flag, Text, Uuid
from domain.wire.legacy import LegacyForm, SecondWebhook, first_true, local_time, text


class Level(Data):
    levelId: Text = ABSENT
    name: Text = ABSENT
    levelMoveUp: Flag = ABSENT
    levelMoveDown: Flag = ABSENT


class CustomerLevelChanged(Data):
    customer: Customer = ABSENT
    level: Level = ABSENT
    automatic: Annotated[Flag, LEGACY_ONLY] = ABSENT
    levelAchievementDate: Annotated[DateTime, LEGACY_ONLY] = ABSENT


LEGACY_LEVEL = {
    "customerId": text("customer.customerId"),
    "levelId": text("level.levelId", none=""),
    "levelName": text("level.name"),
    "levelAchievementDate": local_time("levelAchievementDate"),
}

CUSTOMER_LEVEL_CHANGED = EventType(
    name="CustomerLevelChanged",
    description="A member reached another level, or lost it.",
    model=CustomerLevelChanged,
    seed=True,
    legacy=LegacyForm(
        "customer.level_changed",
        LEGACY_LEVEL,
        second=SecondWebhook(
            variant="automatic",
            when="automatic",
            type="customer.level_changed_automatically",
            data={
                **LEGACY_LEVEL,
                "levelMove": first_true({"up": "level.levelMoveUp", "down": "level.levelMoveDown"}),
            },
        ),
    ),
    sample={
        "customer": CUSTOMER_SAMPLE,
        "level": {
            "levelId": "8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a",
            "name": "Gold",
            "levelMoveUp": True,
            "levelMoveDown": False,
        },
        "automatic": True,
        "levelAchievementDate": "2026-01-02T14:05:09+01:00",
    },
)


class LevelWillExpire(Data):
    customerId: Uuid = ABSENT
    customerEmail: Text = ABSENT
    customerPhone: Text = ABSENT
    customerLoyaltyCardNumber: Text = ABSENT
    customerFirstName: Text = ABSENT
    customerLastName: Text = ABSENT
    levelId: Uuid = ABSENT
    levelName: Text = ABSENT
    futureLevelId: Uuid = ABSENT
    futureLevelName: Text = ABSENT


LEVEL_WILL_EXPIRE = EventType(
    name="LevelWillExpire",
    description="A member's level is recalculated on a day soon to come and will change.",
    model=LevelWillExpire,
    seed=True,
    scheduled=True,
    legacy=LegacyForm(
        "account.expiring_level_notification",
        [
            {
                "customerId": text("customerId"),
                "customerEmail": text("customerEmail"),
                "customerPhone": text("customerPhone"),
                "customerLoyaltyCardNumber": text("customerLoyaltyCardNumber"),
                "customerFirstName": text("customerFirstName"),
                "customerLastName": text("customerLastName"),
                "levelId": text("levelId"),
                "levelName": text("levelName"),
                "futureLevelId": text("futureLevelId"),
                "futureLevelName": text("futureLevelName"),
            }
        ],
    ),
    sample={
        "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
        "customerEmail": "member@example.com",
        "customerPhone": "+48500100200",
        "customerLoyaltyCardNumber": "4006381333931",
        "customerFirstName": "Alex",
        "customerLastName": "Example",
        "levelId": "8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a",
        "levelName": "Gold",
        "futureLevelId": "7e6d5c4b-3a29-4180-9f6e-5d4c3b2a1908",
        "futureLevelName": "Silver",
    },
)
