"""Events of rewards and of their purchase by members."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated

from domain.events.event_type import EventType
from domain.events.families.parts import ADDRESS_SAMPLE, CUSTOMER_SAMPLE, Address, Customer, TimeUnit
from domain.events.fields import ABSENT, SECRET, Amount, Data, DateTime, Flag, Free, Integer, Text, Uuid, absent_as
from domain.wire.jsontext import JsonValue, Number
from domain.wire.legacy import LegacyForm, number, store_code, text


class BoughtCoupon(Data):
    code: Annotated[Text, SECRET] = ABSENT
    value: Amount = ABSENT
    status: Text = ABSENT
    activeFrom: DateTime = ABSENT
    activeTo: DateTime = ABSENT
    usedAt: DateTime = ABSENT


class BoughtReward(Data):
    rewardId: Uuid = ABSENT
    rewardName: Text = ABSENT
    rewardType: Text = ABSENT


class RewardRedemption(Data):
    redeemedRewardId: Uuid = ABSENT


class PurchaseCause(Data):
    customerId: Uuid | None = ABSENT
    campaignId: Uuid | None = ABSENT
    transactionId: Uuid | None = ABSENT
    customEventId: Uuid | None = ABSENT
    internalEventName: Text | None = ABSENT


class CustomerBoughtReward(Data):
    customer: Customer = ABSENT
    coupon: BoughtCoupon = ABSENT
    reward: BoughtReward = ABSENT
    rewardRedemption: RewardRedemption = ABSENT
    costInPoints: Amount = ABSENT
    actionCause: PurchaseCause | None = ABSENT


CUSTOMER_BOUGHT_REWARD = EventType(
    name="CustomerBoughtReward",
    description="A member bought a reward with points.",
    model=CustomerBoughtReward,
    seed=True,
    legacy=LegacyForm(
        "customer.bought_campaign",
        {
            "storeCode": store_code(),
            "customerId": text("customer.customerId"),
            "campaignId": text("reward.rewardId"),
            "costInPoints": number("costInPoints"),
            "couponCode": text("coupon.code"),
        },
        created_at=True,
    ),
    sample={
        "customer": CUSTOMER_SAMPLE,
        "coupon": {
            "code": "COFFEE-9XQ2",
            "value": Number("15.00"),
            "status": "active",
            "activeFrom": "2026-01-02T00:00:00+01:00",
            "activeTo": "2026-03-02T23:59:59+01:00",
            "usedAt": "2026-01-05T09:30:00+01:00",
        },
        "reward": {
            "rewardId": "d4c3b2a1-9087-4f6e-8d5c-4b3a29180706",
            "rewardName": "Free coffee",
            "rewardType": "static_coupon",
        },
        "rewardRedemption": {"redeemedRewardId": "e5d4c3b2-a190-4786-9f6e-5d4c3b2a1807"},
        "costInPoints": Number("150.00"),
        "actionCause": {
            "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
            "campaignId": None,
            "transactionId": None,
            "customEventId": None,
            "internalEventName": "customer_bought_reward",
        },
    },
)


class RedeemingCustomer(Data):
    email: Text = ABSENT
    firstName: Text = ABSENT
    lastName: Text = ABSENT
    companyName: Text = ABSENT
    nip: Text = ABSENT
    phone: Text = ABSENT
    loyaltyCardNumber: Text = ABSENT
    address: Address = ABSENT


class RedeemedCoupon(Data):
    code: Annotated[Text, SECRET] = ABSENT
    value: Amount = ABSENT
    activeFrom: DateTime = ABSENT
    activeTo: DateTime = ABSENT


class IssuedReward(Data):
    issuedRewardId: Text = ABSENT
    token: Annotated[Text, SECRET] = ABSENT
    name: Text = ABSENT
    customerId: Text = ABSENT
    status: Text = ABSENT
    costInPoints: Amount = ABSENT
    tax: Amount = ABSENT
    taxPriceValue: Amount = ABSENT
    price: Amount = ABSENT
    redemptionDate: DateTime = ABSENT
    customerData: RedeemingCustomer = ABSENT
    rewardType: Text = ABSENT
    rewardId: Text = ABSENT
    issuedCoupon: RedeemedCoupon = ABSENT


class RewardRedemptionStatusChanged(Data):
    issuedReward: IssuedReward = ABSENT
    newStatus: Text = ABSENT
    newComment: Text = ABSENT
    newDate: DateTime = ABSENT
    oldStatus: Text = ABSENT
    oldComment: Text = ABSENT
    oldDate: DateTime = ABSENT


REWARD_REDEMPTION_STATUS_CHANGED = EventType(
    name="RewardRedemptionStatusChanged",
    description="The handling of a bought reward moved on, for example from ordered to shipped.",
    model=RewardRedemptionStatusChanged,
    seed=True,
    legacy=LegacyForm(
        "customer.reward_redemption_status_changed",
        {
            "issuedRewardId": text("issuedReward.issuedRewardId"),
            "customerId": text("issuedReward.customerId"),
            "oldStatus": text("oldStatus"),
            "newStatus": text("newStatus"),
        },
    ),
    sample={
        "issuedReward": {
            "issuedRewardId": "e5d4c3b2-a190-4786-9f6e-5d4c3b2a1807",
            "token": "TKN-51C8D2",
            "name": "Travel mug",
            "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
            "status": "shipped",
            "costInPoints": 400,
            "tax": 23,
            "taxPriceValue": Number("9.35"),
            "price": Number("49.99"),
            "redemptionDate": "2026-01-02T14:05:09+01:00",
            "customerData": {
                "email": "member@example.com",
                "firstName": "Alex",
                "lastName": "Example",
                "companyName": "Example Ltd",
                "nip": "5250007738",
                "phone": "+48500100200",
                "loyaltyCardNumber": "4006381333931",
                "address": ADDRESS_SAMPLE,
            },
            "rewardType": "material",
            "rewardId": "c3b2a190-8f7e-4d6c-9b5a-493827160504",
            "issuedCoupon": {
                "code": "MUG-7H2P",
                "value": 1,
                "activeFrom": "2026-01-02T00:00:00+01:00",
                "activeTo": "2026-03-02T23:59:59+01:00",
            },
        },
        "newStatus": "shipped",
        "newComment": "Handed to the carrier",
        "newDate": "2026-01-04T10:00:00+01:00",
        "oldStatus": "ordered",
        "oldComment": "Paid with points",
        "oldDate": "2026-01-02T14:05:09+01:00",
    },
)


class RewardTranslation(Data):
    name: Text = ABSENT
    id: Integer = ABSENT
    locale: Text = ABSENT


class RewardPeriod(Data):
    allTime: Flag = ABSENT
    from_: DateTime = absent_as("from")
    to: DateTime = ABSENT


class RewardLabel(Data):
    key: Text = ABSENT
    value: Text = ABSENT


class UsageLimit(Data):
    perUser: Amount = ABSENT
    general: Amount = ABSENT


class RewardInterval(Data):
    type: TimeUnit = ABSENT


class RewardLimit(Data):
    interval: RewardInterval = ABSENT
    value: Amount = ABSENT


class RewardLimits(Data):
    general: RewardLimit = ABSENT
    perMember: RewardLimit = ABSENT


class Reward(Data):
    rewardId: Uuid = ABSENT
    active: Flag = ABSENT
    fulfillmentTracking: Flag = ABSENT
    canBeBoughtManually: Flag = ABSENT
    type: Text = ABSENT
    name: Text = ABSENT
    price: Amount = ABSENT
    levels: list[Uuid] = ABSENT
    segments: list[Uuid] = ABSENT
    categories: list[Uuid] = ABSENT
    photos: list[dict[str, Free]] = ABSENT
    translations: list[RewardTranslation] = ABSENT
    createdAt: DateTime = ABSENT
    activity: RewardPeriod = ABSENT
    visibility: RewardPeriod = ABSENT
    labels: list[RewardLabel] = ABSENT
    featured: Flag = ABSENT
    public: Flag = ABSENT
    costInPoints: Amount | None = ABSENT
    usageLimit: UsageLimit = ABSENT
    limits: RewardLimits = ABSENT


REWARD_SAMPLE: dict[str, JsonValue] = {
    "rewardId": "d4c3b2a1-9087-4f6e-8d5c-4b3a29180706",
    "active": True,
    "fulfillmentTracking": False,
    "canBeBoughtManually": True,
    "type": "static_coupon",
    "name": "Free coffee",
    "price": Number("15.00"),
    "levels": ["8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a"],
    "segments": ["6d5c4b3a-2918-4070-8f5e-4d3c2b1a0918"],
    "categories": ["5c4b3a29-1807-4f6e-9d4c-3b2a19080716"],
    "photos": [{"photoId": "4b3a2918-0706-4e5d-8c3b-2a1908071605", "mimeType": "image/png"}],
    "translations": [
        {"name": "Free coffee", "id": 1, "locale": "en"},
        {"name": "Darmowa kawa", "id": 2, "locale": "pl"},
    ],
    "createdAt": "2025-11-20T08:00:00+01:00",
    "activity": {"allTime": False, "from": "2026-01-01T00:00:00+01:00", "to": "2026-06-30T23:59:59+02:00"},
    "visibility": {"allTime": False, "from": "2025-12-15T00:00:00+01:00", "to": "2026-06-30T23:59:59+02:00"},
    "labels": [{"key": "campaign", "value": "spring"}],
    "featured": True,
    "public": True,
    "costInPoints": 150,
    "usageLimit": {"perUser": 2, "general": 1000},
    "limits": {
        "general": {"interval": {"type": "calendarMonths"}, "value": 500},
        "perMember": {"interval": {"type": "calendarWeeks"}, "value": 1},
    },
}


class RewardCreated(Data):
    reward: Reward = ABSENT


REWARD_CREATED = EventType(
    name="RewardCreated",
    description="A reward was set up.",
    model=RewardCreated,
    sample={"reward": REWARD_SAMPLE},
)


class RewardUpdated(Data):
    reward: Reward = ABSENT


REWARD_UPDATED = EventType(
    name="RewardUpdated",
    description="A reward was changed.",
    model=RewardUpdated,
    sample={"reward": REWARD_SAMPLE},
)
