"""Models and legacy forms that several families of events share."""

from typing import Literal

from domain.events.fields import Data, Email, Free, Integer, Text, Uuid, sample
from domain.wire.legacy import Shape, text, texts


class Customer(Data):
    customerId: Uuid = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    email: Email = sample("member@example.com")
    phone: Text = sample("+48500100200")
    loyaltyCardNumber: Text = sample("4006381333931")


LEGACY_CUSTOMER: dict[str, Shape] = {"customerId": text("customer.customerId")}
LEGACY_MEMBER = texts(
    *("customerId", "customerEmail", "customerPhone", "customerLoyaltyCardNumber"),
    *("customerFirstName", "customerLastName"),
)


class Address(Data):
    street: Text = sample("Main Street")
    address1: Text = sample("12")
    address2: Text = sample("3a")
    postal: Text = sample("50-001")
    city: Text = sample("Wrocław")
    province: Text = sample("Dolnośląskie")
    country: Text = sample("PL")


LEGACY_ADDRESS = texts(*Address.model_fields, within="customerData.address")


class Label(Data):
    key: Text = sample("origin")
    value: Free = sample("Colombia")


TimeUnit = Literal["calendarHours", "calendarDays", "calendarWeeks", "calendarMonths", "calendarYears"]


class Interval(Data):
    type: TimeUnit = sample("calendarDays")
    value: Integer = sample(1)
