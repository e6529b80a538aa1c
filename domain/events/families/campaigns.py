"""Events of campaigns and of their effects on members."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, GetJsonSchemaHandler, Tag
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from domain.events.event_type import event
from domain.events.families.parts import Customer
from domain.events.fields import ABSENT, Amount, Data, DateTime, Flag, Free, Integer, Text, Uuid, sample, sample_of
from domain.wire.jsontext import Number


class CampaignRuleProgress(Data):
    achievementRuleId: Text = sample("29180706-1504-4c3b-8a19-080716050403")
    periodGoal: Amount = sample(5)
    currentPeriodValue: Amount = sample(Number("5.0"))
    consecutivePeriods: Integer = sample(1)
    completedConsecutivePeriods: Integer = sample(1)
    periodType: Text = sample("calendarMonths")
    type: Text = sample("direct")
    trigger: Text = sample("transaction")
    periodValue: Amount = sample(1)


class CampaignMemberProgress(Data):
    completedCount: Integer = sample(1)
    rules: list[CampaignRuleProgress] = ABSENT


class LastTrigger(Data):
    triggerId: Uuid = sample("1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b")
    triggerType: Literal["transaction", "custom_event"] = sample("transaction")


class RelatedAchievement(Data):
    achievementId: Uuid = sample("3a291807-0615-4d4c-8b2a-190807160504")
    achievementName: Text = sample("Regular guest")
    limitReached: Flag = sample(False)
    memberProgress: CampaignMemberProgress = ABSENT
    lastTrigger: LastTrigger = ABSENT


class Trigger(Data):
    """Fields that all kinds of triggers have."""

    triggerId: Uuid = sample("1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b")
    createdAt: DateTime = sample("2026-01-02T14:05:10+01:00")


class TransactionTrigger(Trigger):
    type: Literal["transaction"] = sample("transaction")
    purchasedAt: DateTime = sample("2026-01-02T14:05:09+01:00")
    documentNumber: Text = sample("R-2026-000123")


class CustomEventTrigger(Trigger):
    type: Literal["custom_event"] = ABSENT
    eventDate: DateTime = ABSENT
    eventId: Text = ABSENT


class InternalEventTrigger(Trigger):
    type: Literal["internal_event"] = ABSENT
    payload: dict[str, Free] = ABSENT


class UniqueCodeTrigger(Trigger):
    type: Literal["custom_event_unique_code"] = ABSENT


class AchievementTrigger(Trigger):
    type: Literal["achievement"] = sample("achievement")
    relatedAchievement: RelatedAchievement = ABSENT


class ReturnTrigger(Trigger):
    type: Literal["return_transaction"] = ABSENT


TriggerType = Literal[
    "transaction", "custom_event", "internal_event", "achievement", "return_transaction", "custom_event_unique_code"
]


class UntypedTrigger(Trigger):
    """Trigger without a `type`; it may have the fields of any kind."""

    type: TriggerType = ABSENT
    purchasedAt: DateTime = ABSENT
    documentNumber: Text = ABSENT
    eventDate: DateTime = ABSENT
    eventId: Text = ABSENT
    payload: dict[str, Free] = ABSENT
    relatedAchievement: RelatedAchievement = ABSENT

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # `type` is declared above only to reject an unknown value; a known value selects one of the other models.
        written = handler.resolve_ref_schema(handler(schema))
        del written["properties"]["type"]
        return written


def _trigger_tag(value: Any) -> str:
    given = value.get("type") if isinstance(value, dict) else None
    return f"<{given}>" if isinstance(given, str) and given in get_args(TriggerType) else "<untyped>"


AnyTrigger = Annotated[
    Annotated[TransactionTrigger, Tag("<transaction>")]
    | Annotated[CustomEventTrigger, Tag("<custom_event>")]
    | Annotated[InternalEventTrigger, Tag("<internal_event>")]
    | Annotated[UniqueCodeTrigger, Tag("<custom_event_unique_code>")]
    | Annotated[AchievementTrigger, Tag("<achievement>")]
    | Annotated[ReturnTrigger, Tag("<return_transaction>")]
    | Annotated[UntypedTrigger, Tag("<untyped>")],
    Discriminator(_trigger_tag),
]


class Campaign(Data):
    triggerType: TriggerType = sample("achievement")
    campaignId: Text = sample("c4a7e2d1-58b3-4f96-8d0e-71f2b3a4c5d6")
    name: Text = sample("Spring points")
    trigger: AnyTrigger = sample(
        sample_of(
            AchievementTrigger, triggerId="07061504-0302-4a19-8807-160504030201", createdAt="2026-01-02T14:05:09+01:00"
        )
    )


@event("A campaign was set up.")
class CampaignCreated(Data):
    campaign: Campaign = ABSENT


@event("A campaign was changed.")
class CampaignUpdated(Data):
    campaign: Campaign = ABSENT


class GivenEffect(Data):
    status: Text = sample("success")
    target: Text = sample("self")
    walletTypeCode: Text | None = sample("default")
    type: Text = sample("give_points")
    points: Amount = sample(Number("80.5"))
    couponValue: Amount = sample(0)
    rewardId: Text = sample("d4c3b2a1-9087-4f6e-8d5c-4b3a29180706")


@event("A campaign gave a member points, a coupon or a reward.")
class CampaignEffectWasApplied(Data):
    member: Customer = ABSENT
    campaign: Campaign = sample(sample_of(Campaign, triggerType="transaction", trigger=sample_of(TransactionTrigger)))
    effectsGiven: list[GivenEffect] = ABSENT
    redemptionCode: Text = sample("SPRING-2026")
