"""Events of coupons that members hold."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated, Literal

from domain.events.event_type import EventType
from domain.events.families.parts import CUSTOMER_SAMPLE, Customer
from domain.events.fields import ABSENT, LEGACY_ONLY, SECRET, Amount, Data, DateTime, Text
from domain.wire.legacy import LegacyForm, text, unix_time


class ExpiringCoupon(Data):
    valueType: Text = ABSENT
    code: Annotated[Text, SECRET] = ABSENT
    value: Amount = ABSENT
    activeFrom: DateTime = ABSENT
    activeTo: DateTime = ABSENT
    usedAt: DateTime = ABSENT


class CouponWillExpire(Data):
    customer: Customer = ABSENT
    issuedCoupon: ExpiringCoupon = ABSENT
    couponStatus: Annotated[Literal["inactive", "active", "expired", "cancelled"], LEGACY_ONLY] = ABSENT


COUPON_WILL_EXPIRE = EventType(
    name="CouponWillExpire",
    description="A member's unused coupon expires on a day soon to come.",
    model=CouponWillExpire,
    seed=True,
    scheduled=True,
    legacy=LegacyForm(
        "campaign.coupon_expiration",
        [
            {
                "customerId": text("customer.customerId"),
                "customerEmail": text("customer.email"),
                "customerLoyaltyCardNumber": text("customer.loyaltyCardNumber"),
                "customerPhone": text("customer.phone"),
                "coupon": text("issuedCoupon.code"),
                "couponExpiresAt": unix_time("issuedCoupon.activeTo"),
                "couponStatus": text("couponStatus"),
            }
        ],
    ),
    sample={
        "customer": CUSTOMER_SAMPLE,
        "issuedCoupon": {
            "valueType": "percentage",
            "code": "SPRING-4F7K",
            "value": 10,
            "activeFrom": "2025-12-12T00:00:00+01:00",
            "activeTo": "2026-01-12T23:59:59+01:00",
            "usedAt": "2026-01-02T14:05:09+01:00",
        },
        "couponStatus": "active",
    },
)
