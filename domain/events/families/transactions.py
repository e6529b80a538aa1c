"""Events of purchases."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from typing import Annotated

from domain.events.event_type import EventType
from domain.events.families.parts import ADDRESS_SAMPLE, CUSTOMER_SAMPLE, Address, Customer, Label, legacy_address
from domain.events.fields import ABSENT, LEGACY_ONLY, Amount, Data, DateTime, Integer, Text, Uuid
from domain.wire.jsontext import Number
from domain.wire.legacy import LegacyForm, each, free, local_time, number, text


class Sku(Data):
    code: Text = ABSENT


class TransactionItem(Data):
    sku: Sku = ABSENT
    name: Text = ABSENT
    quantity: Integer = ABSENT
    grossValue: Amount = ABSENT
    category: Text = ABSENT
    maker: Text = ABSENT
    labels: list[Label] = ABSENT


class Buyer(Data):
    email: Text = ABSENT
    name: Text = ABSENT
    nip: Text = ABSENT
    phone: Text = ABSENT
    loyaltyCardNumber: Text = ABSENT
    address: Address = ABSENT


class TransactionRegistered(Data):
    transactionId: Uuid = ABSENT
    documentNumber: Text = ABSENT
    purchasedAt: DateTime = ABSENT
    documentType: Text = ABSENT
    customerData: Buyer = ABSENT
    items: list[TransactionItem] = ABSENT
    channelId: Uuid = ABSENT
    purchasePlace: Annotated[Text, LEGACY_ONLY] = ABSENT
    posId: Annotated[Text, LEGACY_ONLY] = ABSENT


TRANSACTION_REGISTERED = EventType(
    name="TransactionRegistered",
    description="A purchase or a return was registered.",
    model=TransactionRegistered,
    seed=True,
    legacy=LegacyForm(
        "transaction.registered",
        {
            "transactionId": text("transactionId"),
            "transactionData": {
                "documentType": text("documentType"),
                "documentNumber": text("documentNumber"),
                "purchasePlace": text("purchasePlace"),
                "purchaseDate": local_time("purchasedAt"),
            },
            "customerData": {
                "name": text("customerData.name"),
                "email": text("customerData.email"),
                "phone": text("customerData.phone"),
                "loyaltyCardNumber": text("customerData.loyaltyCardNumber"),
                "nip": text("customerData.nip"),
                "address": legacy_address("customerData.address"),
            },
            "items": each(
                "items",
                {
                    "sku": {"code": text("sku.code")},
                    "name": text("name"),
                    "quantity": number("quantity"),
                    "grossValue": number("grossValue"),
                    "category": text("category"),
                    "maker": text("maker"),
                    "labels": each("labels", {"key": text("key"), "value": free("value")}),
                },
            ),
            "posId": text("posId"),
        },
    ),
    sample={
        "transactionId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b",
        "documentNumber": "R-2026-000123",
        "purchasedAt": "2026-01-02T14:05:09+01:00",
        "documentType": "sell",
        "customerData": {
            "email": "member@example.com",
            "name": "Alex Example",
            "nip": "5250007738",
            "phone": "+48500100200",
            "loyaltyCardNumber": "4006381333931",
            "address": ADDRESS_SAMPLE,
        },
        "items": [
            {
                "sku": {"code": "SKU-1001"},
                "name": "Coffee beans 1 kg",
                "quantity": 2,
                "grossValue": Number("79.90"),
                "category": "groceries",
                "maker": "Example Roastery",
                "labels": [{"key": "origin", "value": "Colombia"}],
            },
            {
                "sku": {"code": "SKU-2002"},
                "name": "Paper filters",
                "quantity": 1,
                "grossValue": 12,
                "category": "household",
                "maker": "Example Paper",
                "labels": [{"key": "pieces", "value": 100}],
            },
        ],
        "channelId": "7d6c5b4a-3928-4716-8504-f3e2d1c0b9a8",
        "purchasePlace": "Wrocław, Main Street",
        "posId": "a1b2c3d4-e5f6-4708-9a1b-2c3d4e5f6071",
    },
)


class TransactionAssignedToCustomer(Data):
    transactionId: Uuid = ABSENT
    grossValue: Amount = ABSENT
    customer: Customer = ABSENT


TRANSACTION_ASSIGNED_TO_CUSTOMER = EventType(
    name="TransactionAssignedToCustomer",
    description="A registered purchase was matched with a member.",
    model=TransactionAssignedToCustomer,
    seed=True,
    legacy=LegacyForm(
        "transaction.assigned_to_customer",
        {
            "transactionId": text("transactionId"),
            "customerId": text("customer.customerId"),
            "grossValue": number("grossValue"),
        },
    ),
    sample={
        "transactionId": "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b",
        "grossValue": Number("91.90"),
        "customer": CUSTOMER_SAMPLE,
    },
)
