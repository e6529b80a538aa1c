"""Events of purchases."""

from typing import Annotated

from domain.events.event_type import event
from domain.events.families.parts import LEGACY_ADDRESS, Address, Customer, Label
from domain.events.fields import ABSENT, LEGACY_ONLY, Amount, Data, DateTime, Integer, Text, Uuid, sample, sample_of
from domain.wire.jsontext import Number
from domain.wire.legacy import LegacyForm, each, free, local_time, number, text, texts


class Sku(Data):
    code: Text = sample("SKU-1001")


class TransactionItem(Data):
    sku: Sku = ABSENT
    name: Text = sample("Coffee beans 1 kg")
    quantity: Integer = sample(2)
    grossValue: Amount = sample(Number("79.90"))
    category: Text = sample("groceries")
    maker: Text = sample("Example Roastery")
    labels: list[Label] = ABSENT


class Buyer(Data):
    email: Text = sample("member@example.com")
    name: Text = sample("Alex Example")
    nip: Text = sample("5250007738")
    phone: Text = sample("+48500100200")
    loyaltyCardNumber: Text = sample("4006381333931")
    address: Address = ABSENT


@event(
    "A purchase or a return was registered.",
    seed=True,
    legacy=LegacyForm(
        "transaction.registered",
        {
            "transactionId": text("transactionId"),
            "transactionData": {
                **texts("documentType", "documentNumber", "purchasePlace"),
                "purchaseDate": local_time("purchasedAt"),
            },
            "customerData": {
                **texts("name", "email", "phone", "loyaltyCardNumber", "nip", within="customerData"),
                "address": LEGACY_ADDRESS,
            },
            "items": each(
                "items",
                {
                    "sku": {"code": text("sku.code")},
                    "name": text("name"),
                    "quantity": number("quantity"),
                    "grossValue": number("grossValue"),
                    **texts("category", "maker"),
                    "labels": each("labels", {"key": text("key"), "value": free("value")}),
                },
            ),
            "posId": text("posId"),
        },
    ),
)
class TransactionRegistered(Data):
    transactionId: Uuid = sample("1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b")
    documentNumber: Text = sample("R-2026-000123")
    purchasedAt: DateTime = sample("2026-01-02T14:05:09+01:00")
    documentType: Text = sample("sell")
    customerData: Buyer = ABSENT
    items: list[TransactionItem] = sample(
        [
            sample_of(TransactionItem),
            {
                "sku": {"code": "SKU-2002"},
                "name": "Paper filters",
                "quantity": 1,
                "grossValue": 12,
                "category": "household",
                "maker": "Example Paper",
                "labels": [{"key": "pieces", "value": 100}],
            },
        ]
    )
    channelId: Uuid = sample("7d6c5b4a-3928-4716-8504-f3e2d1c0b9a8")
    purchasePlace: Annotated[Text, LEGACY_ONLY] = sample("Wrocław, Main Street")
    posId: Annotated[Text, LEGACY_ONLY] = sample("a1b2c3d4-e5f6-4708-9a1b-2c3d4e5f6071")


@event(
    "A registered purchase was matched with a member.",
    seed=True,
    legacy=LegacyForm(
        "transaction.assigned_to_customer",
        {
            "transactionId": text("transactionId"),
            "customerId": text("customer.customerId"),
            "grossValue": number("grossValue"),
        },
    ),
)
class TransactionAssignedToCustomer(Data):
    transactionId: Uuid = sample("1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b")
    grossValue: Amount = sample(Number("91.90"))
    customer: Customer = ABSENT
