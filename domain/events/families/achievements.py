"""Events of achievements and of members' progress in them."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, RootModel, Tag

from domain.events.event_type import EventType
from domain.events.families.parts import CUSTOMER_SAMPLE, Customer, Interval, Translations
from domain.events.fields import ABSENT, Amount, Data, DateTime, Flag, Integer, Text, Uuid, absent_as, json_type
from domain.wire.jsontext import JsonValue, Number


class TextPeriod(Data):
    from_: Text = absent_as("from")
    to: Text = ABSENT


ActivityData = Annotated[
    Annotated[Text, Tag("<string>")] | Annotated[TextPeriod, Tag("<object>")] | Annotated[list[Text], Tag("<array>")],
    Discriminator(
        json_type,
        custom_error_type="wrong_type",
        custom_error_message="must be a string, an object with `from` and `to`, or an array of strings",
    ),
]


class AchievementActivity(Data):
    data: ActivityData = ABSENT
    operator: Text = ABSENT


class AchievementLimit(Data):
    value: Integer = ABSENT
    interval: Interval = ABSENT


class RulePeriod(Data):
    type: Text = ABSENT
    consecutive: Integer = ABSENT


class CompleteRule(Data):
    periodGoal: Integer = ABSENT
    period: RulePeriod = ABSENT


class RuleCondition(Data):
    operator: Text = ABSENT
    data: list[Text] = ABSENT
    attribute: Text = ABSENT


class RuleAggregation(Data):
    type: Text = ABSENT


class AchievementRule(Data):
    trigger: Text = ABSENT
    type: Text = ABSENT
    completeRule: CompleteRule = ABSENT
    conditions: list[RuleCondition] = ABSENT
    aggregation: RuleAggregation = ABSENT
    limit: AchievementLimit = ABSENT
    translations: Translations = ABSENT


class Achievement(Data):
    achievementId: Uuid = ABSENT
    active: Flag = ABSENT
    activity: AchievementActivity = ABSENT
    limit: AchievementLimit = ABSENT
    translations: Translations = ABSENT
    rules: list[AchievementRule] = ABSENT


TRANSLATIONS_SAMPLE: dict[str, JsonValue] = {
    "en": {"name": "Regular guest", "description": "Five purchases in a month"},
    "pl": {"name": "Stały gość", "description": "Pięć zakupów w miesiącu"},
}

ACHIEVEMENT_SAMPLE: dict[str, JsonValue] = {
    "achievementId": "3a291807-0615-4d4c-8b2a-190807160504",
    "active": True,
    "activity": {
        "data": {"from": "2026-01-01T00:00:00+01:00", "to": "2026-12-31T23:59:59+01:00"},
        "operator": "is_between",
    },
    "limit": {"value": 1, "interval": {"type": "calendarYears", "value": 1}},
    "translations": TRANSLATIONS_SAMPLE,
    "rules": [
        {
            "trigger": "transaction",
            "type": "direct",
            "completeRule": {"periodGoal": 5, "period": {"type": "calendarMonths", "consecutive": 1}},
            "conditions": [{"operator": "is_one_of", "data": ["groceries"], "attribute": "transaction.category"}],
            "aggregation": {"type": "quantity"},
            "limit": {"value": 1, "interval": {"type": "calendarDays", "value": 1}},
            "translations": TRANSLATIONS_SAMPLE,
        }
    ],
}


class AchievementCreated(Data):
    achievement: Achievement = ABSENT


ACHIEVEMENT_CREATED = EventType(
    name="AchievementCreated",
    description="An achievement was set up.",
    model=AchievementCreated,
    sample={"achievement": ACHIEVEMENT_SAMPLE},
)


class AchievementUpdated(Data):
    achievement: Achievement = ABSENT


ACHIEVEMENT_UPDATED = EventType(
    name="AchievementUpdated",
    description="An achievement was changed.",
    model=AchievementUpdated,
    sample={"achievement": ACHIEVEMENT_SAMPLE},
)

TriggerType = Literal["transaction", "custom_event"]


class RuleProgress(Data):
    achievementRuleId: Text = ABSENT
    periodGoal: Amount = ABSENT
    currentPeriodValue: Amount = ABSENT
    periodType: Text = ABSENT
    consecutivePeriods: Integer | None = ABSENT
    completedConsecutivePeriods: Integer = ABSENT
    type: Text = ABSENT
    trigger: TriggerType = ABSENT
    translations: Translations = ABSENT


class MemberProgress(Data):
    completedCount: Integer = ABSENT
    reset: Flag = ABSENT
    rules: list[RuleProgress] = ABSENT


class PreviousMemberProgress(Data):
    completedCount: Integer = ABSENT
    rules: list[RuleProgress] = ABSENT


class ProcessedAchievement(Data):
    achievementId: Text = ABSENT
    achievementName: Text = ABSENT
    limitReached: Flag = ABSENT
    manuallyEdited: Flag = ABSENT
    memberProgress: MemberProgress = ABSENT


class ProgressedAchievement(ProcessedAchievement):
    previousMemberProgress: PreviousMemberProgress = ABSENT


class ProcessingTrigger(Data):
    triggerId: Uuid = ABSENT
    type: TriggerType = ABSENT


class ProgressTrigger(ProcessingTrigger):
    createdAt: DateTime = ABSENT
    purchasedAt: DateTime = ABSENT
    documentNumber: Text = ABSENT
    eventDate: DateTime = ABSENT
    eventId: Text = ABSENT


def _rule_progress(value: JsonValue) -> dict[str, JsonValue]:
    return {
        "achievementRuleId": "29180706-1504-4c3b-8a19-080716050403",
        "periodGoal": 5,
        "currentPeriodValue": value,
        "periodType": "calendarMonths",
        "consecutivePeriods": 1,
        "completedConsecutivePeriods": 0,
        "type": "direct",
        "trigger": "transaction",
        "translations": TRANSLATIONS_SAMPLE,
    }


PROCESSED_ACHIEVEMENT_SAMPLE: dict[str, JsonValue] = {
    "achievementId": "3a291807-0615-4d4c-8b2a-190807160504",
    "achievementName": "Regular guest",
    "limitReached": False,
    "manuallyEdited": False,
    "memberProgress": {"completedCount": 0, "reset": False, "rules": [_rule_progress(3)]},
}


class MemberAchievementProgressWasChanged(Data):
    member: Customer = ABSENT
    achievement: ProgressedAchievement = ABSENT
    triggerType: TriggerType = ABSENT
    trigger: ProgressTrigger = ABSENT


MEMBER_ACHIEVEMENT_PROGRESS_WAS_CHANGED = EventType(
    name="MemberAchievementProgressWasChanged",
    description="A member came nearer to an achievement, or completed it.",
    model=MemberAchievementProgressWasChanged,
    sample={
        "member": CUSTOMER_SAMPLE,
        "achievement": {
            **PROCESSED_ACHIEVEMENT_SAMPLE,
            "previousMemberProgress": {"completedCount": 0, "rules": [_rule_progress(Number("2.5"))]},
        },
        "triggerType": "transaction",
        "trigger": {
            "triggerId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b",
            "type": "transaction",
            "createdAt": "2026-01-02T14:05:10+01:00",
            "purchasedAt": "2026-01-02T14:05:09+01:00",
            "documentNumber": "R-2026-000123",
            "eventDate": "2026-01-02T14:05:09+01:00",
            "eventId": "18070615-0403-4b2a-9908-071605040302",
        },
    },
)


class ProcessedEntry(Data):
    member: Customer = ABSENT
    achievement: ProcessedAchievement = ABSENT
    triggerType: TriggerType = ABSENT
    trigger: ProcessingTrigger = ABSENT


class AchievementsWereProcessed(RootModel[list[ProcessedEntry]]):
    pass


ACHIEVEMENTS_WERE_PROCESSED = EventType(
    name="AchievementsWereProcessed",
    description="All achievements a trigger could touch were worked through, with the member's progress in each.",
    model=AchievementsWereProcessed,
    sample=[
        {
            "member": CUSTOMER_SAMPLE,
            "achievement": PROCESSED_ACHIEVEMENT_SAMPLE,
            "triggerType": "transaction",
            "trigger": {"triggerId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b", "type": "transaction"},
        }
    ],
)
