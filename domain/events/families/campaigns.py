"""Events of campaigns and of their effects on members."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, GetJsonSchemaHandler, Tag
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from domain.events.event_type import EventType
from domain.events.families.parts import CUSTOMER_SAMPLE, Customer
from domain.events.fields import ABSENT, Amount, Data, DateTime, Flag, Free, Integer, Text, Uuid
from domain.wire.jsontext import JsonValue, Number


class CampaignRuleProgress(Data):
    achievementRuleId: Text = ABSENT
    periodGoal: Amount = ABSENT
    currentPeriodValue: Amount = ABSENT
    consecutivePeriods: Integer = ABSENT
    completedConsecutivePeriods: Integer = ABSENT
    periodType: Text = ABSENT
    type: Text = ABSENT
    trigger: Text = ABSENT
    periodValue: Amount = ABSENT


class CampaignMemberProgress(Data):
    completedCount: Integer = ABSENT
    rules: list[CampaignRuleProgress] = ABSENT


class LastTrigger(Data):
    triggerId: Uuid = ABSENT
    triggerType: Literal["transaction", "custom_event"] = ABSENT


class RelatedAchievement(Data):
    achievementId: Uuid = ABSENT
    achievementName: Text = ABSENT
    limitReached: Flag = ABSENT
    memberProgress: CampaignMemberProgress = ABSENT
    lastTrigger: LastTrigger = ABSENT


class Trigger(Data):
    """Fields that all kinds of triggers have."""

    triggerId: Uuid = ABSENT
    createdAt: DateTime = ABSENT


class TransactionTrigger(Trigger):
    type: Literal["transaction"] = ABSENT
    purchasedAt: DateTime = ABSENT
    documentNumber: Text = ABSENT


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
    type: Literal["achievement"] = ABSENT
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
    triggerType: TriggerType = ABSENT
    campaignId: Text = ABSENT
    name: Text = ABSENT
    trigger: AnyTrigger = ABSENT


CAMPAIGN_SAMPLE: dict[str, JsonValue] = {
    "triggerType": "achievement",
    "campaignId": "c4a7e2d1-58b3-4f96-8d0e-71f2b3a4c5d6",
    "name": "Spring points",
    "trigger": {
        "triggerId": "07061504-0302-4a19-8807-160504030201",
        "createdAt": "2026-01-02T14:05:09+01:00",
        "type": "achievement",
        "relatedAchievement": {
            "achievementId": "3a291807-0615-4d4c-8b2a-190807160504",
            "achievementName": "Regular guest",
            "limitReached": False,
            "memberProgress": {
                "completedCount": 1,
                "rules": [
                    {
                        "achievementRuleId": "29180706-1504-4c3b-8a19-080716050403",
                        "periodGoal": 5,
                        "currentPeriodValue": Number("5.0"),
                        "consecutivePeriods": 1,
                        "completedConsecutivePeriods": 1,
                        "periodType": "calendarMonths",
                        "type": "direct",
                        "trigger": "transaction",
                        "periodValue": 1,
                    }
                ],
            },
            "lastTrigger": {"triggerId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b", "triggerType": "transaction"},
        },
    },
}


class CampaignCreated(Data):
    campaign: Campaign = ABSENT


CAMPAIGN_CREATED = EventType(
    name="CampaignCreated",
    description="A campaign was set up.",
    model=CampaignCreated,
    sample={"campaign": CAMPAIGN_SAMPLE},
)


class CampaignUpdated(Data):
    campaign: Campaign = ABSENT


CAMPAIGN_UPDATED = EventType(
    name="CampaignUpdated",
    description="A campaign was changed.",
    model=CampaignUpdated,
    sample={"campaign": CAMPAIGN_SAMPLE},
)


class GivenEffect(Data):
    status: Text = ABSENT
    target: Text = ABSENT
    walletTypeCode: Text | None = ABSENT
    type: Text = ABSENT
    points: Amount = ABSENT
    couponValue: Amount = ABSENT
    rewardId: Text = ABSENT


class CampaignEffectWasApplied(Data):
    member: Customer = ABSENT
    campaign: Campaign = ABSENT
    effectsGiven: list[GivenEffect] = ABSENT
    redemptionCode: Text = ABSENT


CAMPAIGN_EFFECT_WAS_APPLIED = EventType(
    name="CampaignEffectWasApplied",
    description="A campaign gave a member points, a coupon or a reward.",
    model=CampaignEffectWasApplied,
    sample={
        "member": CUSTOMER_SAMPLE,
        "campaign": {
            "triggerType": "transaction",
            "campaignId": "c4a7e2d1-58b3-4f96-8d0e-71f2b3a4c5d6",
            "name": "Spring points",
            "trigger": {
                "triggerId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b",
                "createdAt": "2026-01-02T14:05:10+01:00",
                "type": "transaction",
                "purchasedAt": "2026-01-02T14:05:09+01:00",
                "documentNumber": "R-2026-000123",
            },
        },
        "effectsGiven": [
            {
                "status": "success",
                "target": "self",
                "walletTypeCode": "default",
                "type": "give_points",
                "points": Number("80.5"),
                "couponValue": 0,
                "rewardId": "d4c3b2a1-9087-4f6e-8d5c-4b3a29180706",
            }
        ],
        "redemptionCode": "SPRING-2026",
    },
)
