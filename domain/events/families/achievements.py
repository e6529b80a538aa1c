"""Events of achievements and of members' progress in them."""

from typing import Annotated, Literal

from pydantic import Discriminator, RootModel, Tag

from domain.events.event_type import event
from domain.events.families.parts import Customer, Interval
from domain.events.fields import ABSENT, Amount, Data, DateTime, Flag, Integer, Text, Uuid, json_type, sample, sample_of
from domain.wire.jsontext import Number


class Name(Data):
    name: Text = ABSENT
    description: Text = ABSENT


class Translations(Data):
    en: Name = sample({"name": "Regular guest", "description": "Five purchases in a month"})
    pl: Name = sample({"name": "Stały gość", "description": "Pięć zakupów w miesiącu"})


class TextPeriod(Data):
    from_: Text = sample("2026-01-01T00:00:00+01:00", alias="from")
    to: Text = sample("2026-12-31T23:59:59+01:00")


ActivityData = Annotated[
    Annotated[Text, Tag("<string>")] | Annotated[TextPeriod, Tag("<object>")] | Annotated[list[Text], Tag("<array>")],
    Discriminator(
        json_type,
        custom_error_type="wrong_type",
        custom_error_message="must be a string, an object with `from` and `to`, or an array of strings",
    ),
]


class AchievementActivity(Data):
    data: ActivityData = sample(sample_of(TextPeriod))
    operator: Text = sample("is_between")


class AchievementLimit(Data):
    value: Integer = sample(1)
    interval: Interval = ABSENT


class RulePeriod(Data):
    type: Text = sample("calendarMonths")
    consecutive: Integer = sample(1)


class CompleteRule(Data):
    periodGoal: Integer = sample(5)
    period: RulePeriod = ABSENT


class RuleCondition(Data):
    operator: Text = sample("is_one_of")
    data: list[Text] = sample(["groceries"])
    attribute: Text = sample("transaction.category")


class RuleAggregation(Data):
    type: Text = sample("quantity")


class AchievementRule(Data):
    trigger: Text = sample("transaction")
    type: Text = sample("direct")
    completeRule: CompleteRule = ABSENT
    conditions: list[RuleCondition] = ABSENT
    aggregation: RuleAggregation = ABSENT
    limit: AchievementLimit = ABSENT
    translations: Translations = ABSENT


class Achievement(Data):
    achievementId: Uuid = sample("3a291807-0615-4d4c-8b2a-190807160504")
    active: Flag = sample(True)
    activity: AchievementActivity = ABSENT
    limit: AchievementLimit = sample({"value": 1, "interval": {"type": "calendarYears", "value": 1}})
    translations: Translations = ABSENT
    rules: list[AchievementRule] = ABSENT


@event("An achievement was set up.")
class AchievementCreated(Data):
    achievement: Achievement = ABSENT


@event("An achievement was changed.")
class AchievementUpdated(Data):
    achievement: Achievement = ABSENT


TriggerType = Literal["transaction", "custom_event"]


class RuleProgress(Data):
    achievementRuleId: Text = sample("29180706-1504-4c3b-8a19-080716050403")
    periodGoal: Amount = sample(5)
    currentPeriodValue: Amount = sample(3)
    periodType: Text = sample("calendarMonths")
    consecutivePeriods: Integer | None = sample(1)
    completedConsecutivePeriods: Integer = sample(0)
    type: Text = sample("direct")
    trigger: TriggerType = sample("transaction")
    translations: Translations = ABSENT


class MemberProgress(Data):
    completedCount: Integer = sample(0)
    reset: Flag = sample(False)
    rules: list[RuleProgress] = ABSENT


class PreviousMemberProgress(Data):
    completedCount: Integer = sample(0)
    rules: list[RuleProgress] = sample([sample_of(RuleProgress, currentPeriodValue=Number("2.5"))])


class ProcessedAchievement(Data):
    achievementId: Text = sample("3a291807-0615-4d4c-8b2a-190807160504")
    achievementName: Text = sample("Regular guest")
    limitReached: Flag = sample(False)
    manuallyEdited: Flag = sample(False)
    memberProgress: MemberProgress = ABSENT


class ProgressedAchievement(ProcessedAchievement):
    previousMemberProgress: PreviousMemberProgress = ABSENT


class ProcessingTrigger(Data):
    triggerId: Uuid = sample("1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b")
    type: TriggerType = sample("transaction")


class ProgressTrigger(ProcessingTrigger):
    createdAt: DateTime = sample("2026-01-02T14:05:10+01:00")
    purchasedAt: DateTime = sample("2026-01-02T14:05:09+01:00")
    documentNumber: Text = sample("R-2026-000123")
    eventDate: DateTime = sample("2026-01-02T14:05:09+01:00")
    eventId: Text = sample("18070615-0403-4b2a-9908-071605040302")


@event("A member came nearer to an achievement, or completed it.")
class MemberAchievementProgressWasChanged(Data):
    member: Customer = ABSENT
    achievement: ProgressedAchievement = ABSENT
    triggerType: TriggerType = sample("transaction")
    trigger: ProgressTrigger = ABSENT


class ProcessedEntry(Data):
    member: Customer = ABSENT
    achievement: ProcessedAchievement = ABSENT
    triggerType: TriggerType = sample("transaction")
    trigger: ProcessingTrigger = ABSENT


@event("All achievements a trigger could touch were worked through, with the member's progress in each.")
class AchievementsWereProcessed(RootModel[list[ProcessedEntry]]): ...
