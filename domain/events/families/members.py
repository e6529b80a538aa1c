"""Events of members' accounts."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated

from domain.events.event_type import EventType
from domain.events.families.parts import ADDRESS_SAMPLE, CUSTOMER_SAMPLE, Address, Customer, Label, legacy_address
from domain.events.fields import ABSENT, LEGACY_ONLY, SECRET, Data, DateTime, Email, Flag, Text, Uuid
from domain.wire.legacy import LegacyForm, UnlessEmpty, each, flag, free, local_time, text, unix_time


class Company(Data):
    name: Text = ABSENT
    nip: Text = ABSENT


class RegisteredCustomer(Data):
    referralToken: Annotated[Text, SECRET] = ABSENT
    firstName: Text = ABSENT
    lastName: Text = ABSENT
    email: Text = ABSENT
    phone: Text = ABSENT
    gender: Text = ABSENT
    birthDate: DateTime = ABSENT
    registeredAt: DateTime = ABSENT
    address: Address = ABSENT
    company: Company = ABSENT
    loyaltyCardNumber: Text = ABSENT
    customAttributes: list[Label] = ABSENT
    agreement1: Flag = ABSENT
    agreement2: Flag = ABSENT
    agreement3: Flag = ABSENT


class CustomerRegistered(Data):
    customerId: Uuid = ABSENT
    customerData: RegisteredCustomer = ABSENT
    levelAchievementDate: Annotated[DateTime, LEGACY_ONLY] = ABSENT
    levelId: Annotated[Text, LEGACY_ONLY] = ABSENT
    posId: Annotated[Text, LEGACY_ONLY] = ABSENT
    sellerId: Annotated[Text, LEGACY_ONLY] = ABSENT
    referralCustomerEmail: Annotated[Email, LEGACY_ONLY] = ABSENT


CUSTOMER_REGISTERED = EventType(
    name="CustomerRegistered",
    description="A member joined the programme.",
    model=CustomerRegistered,
    seed=True,
    legacy=LegacyForm(
        "customer.registered",
        {
            "customerId": text("customerId"),
            "data": {
                "firstName": text("customerData.firstName"),
                "lastName": text("customerData.lastName"),
                "gender": text("customerData.gender"),
                "email": text("customerData.email"),
                "phone": text("customerData.phone"),
                "birthDate": local_time("customerData.birthDate"),
                "levelAchievementDate": local_time("levelAchievementDate"),
                "createdAt": unix_time("customerData.registeredAt"),
                "address": legacy_address("customerData.address"),
                "company": UnlessEmpty(
                    {"name": text("customerData.company.name"), "nip": text("customerData.company.nip")}
                ),
                "loyaltyCardNumber": text("customerData.loyaltyCardNumber", none=""),
                "labels": each("customerData.customAttributes", {"key": text("key"), "value": free("value")}),
                "agreement1": flag("customerData.agreement1"),
                "agreement2": flag("customerData.agreement2"),
                "agreement3": flag("customerData.agreement3"),
                "referral_customer_email": text("referralCustomerEmail"),
                "levelId": text("levelId"),
                "posId": text("posId"),
                "sellerId": text("sellerId"),
            },
        },
    ),
    sample={
        "customerId": "9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70",
        "customerData": {
            "referralToken": "REF-7F3K9Q",
            "firstName": "Alex",
            "lastName": "Example",
            "email": "member@example.com",
            "phone": "+48500100200",
            "gender": "not_disclosed",
            "birthDate": "1988-03-27T00:00:00+01:00",
            "registeredAt": "2026-01-02T14:05:09+01:00",
            "address": ADDRESS_SAMPLE,
            "company": {"name": "Example Ltd", "nip": "5250007738"},
            "loyaltyCardNumber": "4006381333931",
            "customAttributes": [{"key": "favouriteShop", "value": "Wrocław"}, {"key": "newsletter", "value": True}],
            "agreement1": True,
            "agreement2": False,
            "agreement3": True,
        },
        "levelAchievementDate": "2026-01-02T14:05:09+01:00",
        "levelId": "7e6d5c4b-3a29-4180-9f6e-5d4c3b2a1908",
        "posId": "a1b2c3d4-e5f6-4708-9a1b-2c3d4e5f6071",
        "sellerId": "b2c3d4e5-f607-4819-8a2b-3c4d5e6f7081",
        "referralCustomerEmail": "friend@example.com",
    },
)


class CustomerUpdated(Data):
    customer: Customer = ABSENT


CUSTOMER_UPDATED = EventType(
    name="CustomerUpdated",
    description="A member's data were changed.",
    model=CustomerUpdated,
    seed=True,
    legacy=LegacyForm("customer.updated", {"customerId": text("customer.customerId")}),
    sample={"customer": CUSTOMER_SAMPLE},
)


class CustomerDeactivated(Data):
    customer: Customer = ABSENT


CUSTOMER_DEACTIVATED = EventType(
    name="CustomerDeactivated",
    description="A member's account was switched off.",
    model=CustomerDeactivated,
    seed=True,
    legacy=LegacyForm("customer.deactivated", {"customerId": text("customer.customerId")}),
    sample={"customer": CUSTOMER_SAMPLE},
)
