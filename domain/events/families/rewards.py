"""Events of rewards, of their purchase by members, and of the coupons that members hold."""

from typing import Annotated, Literal

from domain.events.event_type import event
from domain.events.families.parts import LEGACY_CUSTOMER, Address, Customer, TimeUnit
from domain.events.fields import (
    ABSENT,
    LEGACY_ONLY,
    SECRET,
    Amount,
    Data,
    DateTime,
    Flag,
    Free,
    Integer,
    Text,
    Uuid,
    sample,
)
from domain.wire.jsontext import Number
from domain.wire.legacy import LegacyForm, number, store_code, text, texts, unix_time


class BoughtCoupon(Data):
    code: Annotated[Text, SECRET] = sample("COFFEE-9XQ2")
    value: Amount = sample(Number("15.00"))
    status: Text = sample("active")
    activeFrom: DateTime = sample("2026-01-02T00:00:00+01:00")
    activeTo: DateTime = sample("2026-03-02T23:59:59+01:00")
    usedAt: DateTime = sample("2026-01-05T09:30:00+01:00")


class BoughtReward(Data):
    rewardId: Uuid = sample("d4c3b2a1-9087-4f6e-8d5c-4b3a29180706")
    rewardName: Text = sample("Free coffee")
    rewardType: Text = sample("static_coupon")


class RewardRedemption(Data):
    redeemedRewardId: Uuid = sample("e5d4c3b2-a190-4786-9f6e-5d4c3b2a1807")


class PurchaseCause(Data):
    customerId: Uuid | None = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    campaignId: Uuid | None = sample(None)
    transactionId: Uuid | None = sample(None)
    customEventId: Uuid | None = sample(None)
    internalEventName: Text | None = sample("customer_bought_reward")


@event(
    "A member bought a reward with points.",
    seed=True,
    legacy=LegacyForm(
        "customer.bought_campaign",
        {
            "storeCode": store_code(),
            **LEGACY_CUSTOMER,
            "campaignId": text("reward.rewardId"),
            "costInPoints": number("costInPoints"),
            "couponCode": text("coupon.code"),
        },
        created_at=True,
    ),
)
class CustomerBoughtReward(Data):
    customer: Customer = ABSENT
    coupon: BoughtCoupon = ABSENT
    reward: BoughtReward = ABSENT
    rewardRedemption: RewardRedemption = ABSENT
    costInPoints: Amount = sample(Number("150.00"))
    actionCause: PurchaseCause | None = ABSENT


class RedeemingCustomer(Data):
    email: Text = sample("member@example.com")
    firstName: Text = sample("Alex")
    lastName: Text = sample("Example")
    companyName: Text = sample("Example Ltd")
    nip: Text = sample("5250007738")
    phone: Text = sample("+48500100200")
    loyaltyCardNumber: Text = sample("4006381333931")
    address: Address = ABSENT


class RedeemedCoupon(Data):
    code: Annotated[Text, SECRET] = sample("MUG-7H2P")
    value: Amount = sample(1)
    activeFrom: DateTime = sample("2026-01-02T00:00:00+01:00")
    activeTo: DateTime = sample("2026-03-02T23:59:59+01:00")


class IssuedReward(Data):
    issuedRewardId: Text = sample("e5d4c3b2-a190-4786-9f6e-5d4c3b2a1807")
    token: Annotated[Text, SECRET] = sample("TKN-51C8D2")
    name: Text = sample("Travel mug")
    customerId: Text = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    status: Text = sample("shipped")
    costInPoints: Amount = sample(400)
    tax: Amount = sample(23)
    taxPriceValue: Amount = sample(Number("9.35"))
    price: Amount = sample(Number("49.99"))
    redemptionDate: DateTime = sample("2026-01-02T14:05:09+01:00")
    customerData: RedeemingCustomer = ABSENT
    rewardType: Text = sample("material")
    rewardId: Text = sample("c3b2a190-8f7e-4d6c-9b5a-493827160504")
    issuedCoupon: RedeemedCoupon = ABSENT


@event(
    "The handling of a bought reward moved on, for example from ordered to shipped.",
    seed=True,
    legacy=LegacyForm(
        "customer.reward_redemption_status_changed",
        {**texts("issuedRewardId", "customerId", within="issuedReward"), **texts("oldStatus", "newStatus")},
    ),
)
class RewardRedemptionStatusChanged(Data):
    issuedReward: IssuedReward = ABSENT
    newStatus: Text = sample("shipped")
    newComment: Text = sample("Handed to the carrier")
    newDate: DateTime = sample("2026-01-04T10:00:00+01:00")
    oldStatus: Text = sample("ordered")
    oldComment: Text = sample("Paid with points")
    oldDate: DateTime = sample("2026-01-02T14:05:09+01:00")


class RewardTranslation(Data):
    name: Text = ABSENT
    id: Integer = ABSENT
    locale: Text = ABSENT


class RewardPeriod(Data):
    allTime: Flag = sample(False)
    from_: DateTime = sample("2026-01-01T00:00:00+01:00", alias="from")
    to: DateTime = sample("2026-06-30T23:59:59+02:00")


class RewardLabel(Data):
    key: Text = sample("campaign")
    value: Text = sample("spring")


class UsageLimit(Data):
    perUser: Amount = sample(2)
    general: Amount = sample(1000)


class RewardInterval(Data):
    type: TimeUnit = ABSENT


class RewardLimit(Data):
    interval: RewardInterval = ABSENT
    value: Amount = ABSENT


class RewardLimits(Data):
    general: RewardLimit = sample({"interval": {"type": "calendarMonths"}, "value": 500})
    perMember: RewardLimit = sample({"interval": {"type": "calendarWeeks"}, "value": 1})


class Reward(Data):
    rewardId: Uuid = sample("d4c3b2a1-9087-4f6e-8d5c-4b3a29180706")
    active: Flag = sample(True)
    fulfillmentTracking: Flag = sample(False)
    canBeBoughtManually: Flag = sample(True)
    type: Text = sample("static_coupon")
    name: Text = sample("Free coffee")
    price: Amount = sample(Number("15.00"))
    levels: list[Uuid] = sample(["8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a"])
    segments: list[Uuid] = sample(["6d5c4b3a-2918-4070-8f5e-4d3c2b1a0918"])
    categories: list[Uuid] = sample(["5c4b3a29-1807-4f6e-9d4c-3b2a19080716"])
    photos: list[dict[str, Free]] = sample(
        [{"photoId": "4b3a2918-0706-4e5d-8c3b-2a1908071605", "mimeType": "image/png"}]
    )
    translations: list[RewardTranslation] = sample(
        [{"name": "Free coffee", "id": 1, "locale": "en"}, {"name": "Darmowa kawa", "id": 2, "locale": "pl"}]
    )
    createdAt: DateTime = sample("2025-11-20T08:00:00+01:00")
    activity: RewardPeriod = ABSENT
    visibility: RewardPeriod = sample(
        {"allTime": False, "from": "2025-12-15T00:00:00+01:00", "to": "2026-06-30T23:59:59+02:00"}
    )
    labels: list[RewardLabel] = ABSENT
    featured: Flag = sample(True)
    public: Flag = sample(True)
    costInPoints: Amount | None = sample(150)
    usageLimit: UsageLimit = ABSENT
    limits: RewardLimits = ABSENT


@event("A reward was set up.")
class RewardCreated(Data):
    reward: Reward = ABSENT


@event("A reward was changed.")
class RewardUpdated(Data):
    reward: Reward = ABSENT


class ExpiringCoupon(Data):
    valueType: Text = sample("percentage")
    code: Annotated[Text, SECRET] = sample("SPRING-4F7K")
    value: Amount = sample(10)
    activeFrom: DateTime = sample("2025-12-12T00:00:00+01:00")
    activeTo: DateTime = sample("2026-01-12T23:59:59+01:00")
    usedAt: DateTime = sample("2026-01-02T14:05:09+01:00")


@event(
    "A member's unused coupon expires on a day soon to come.",
    seed=True,
    scheduled=True,
    legacy=LegacyForm(
        "campaign.coupon_expiration",
        [
            {
                **LEGACY_CUSTOMER,
                "customerEmail": text("customer.email"),
                "customerLoyaltyCardNumber": text("customer.loyaltyCardNumber"),
                "customerPhone": text("customer.phone"),
                "coupon": text("issuedCoupon.code"),
                "couponExpiresAt": unix_time("issuedCoupon.activeTo"),
                "couponStatus": text("couponStatus"),
            }
        ],
    ),
)
class CouponWillExpire(Data):
    customer: Customer = ABSENT
    issuedCoupon: ExpiringCoupon = ABSENT
    couponStatus: Annotated[Literal["inactive", "active", "expired", "cancelled"], LEGACY_ONLY] = sample("active")
