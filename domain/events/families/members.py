"""Events of members: their accounts, the codes they are sent, their levels and segments."""

from typing import Annotated

from domain.events.event_type import event
from domain.events.families.parts import LEGACY_ADDRESS, LEGACY_CUSTOMER, LEGACY_MEMBER, Address, Customer, Label
from domain.events.fields import ABSENT, LEGACY_ONLY, SECRET, Data, DateTime, Email, Flag, Integer, Text, Uuid, sample
from domain.wire.legacy import (
    LegacyForm,
    SecondWebhook,
    Shape,
    UnlessEmpty,
    each,
    first_true,
    flag,
    free,
    local_time,
    text,
    texts,
    unix_time,
)


class Company(Data):
    name: Text = sample("Example Ltd")
    nip: Text = sample("5250007738")


class RegisteredCustomer(Data):
    referralToken: Annotated[Text, SECRET] = sample("REF-7F3K9Q")
    firstName: Text = sample("Alex")
    lastName: Text = sample("Example")
    email: Text = sample("member@example.com")
    phone: Text = sample("+48500100200")
    gender: Text = sample("not_disclosed")
    birthDate: DateTime = sample("1988-03-27T00:00:00+01:00")
    registeredAt: DateTime = sample("2026-01-02T14:05:09+01:00")
    address: Address = ABSENT
    company: Company = ABSENT
    loyaltyCardNumber: Text = sample("4006381333931")
    customAttributes: list[Label] = sample(
        [{"key": "favouriteShop", "value": "Wrocław"}, {"key": "newsletter", "value": True}]
    )
    agreement1: Flag = sample(True)
    agreement2: Flag = sample(False)
    agreement3: Flag = sample(True)


@event(
    "A member joined the programme.",
    seed=True,
    legacy=LegacyForm(
        "customer.registered",
        {
            "customerId": text("customerId"),
            "data": {
                **texts("firstName", "lastName", "gender", "email", "phone", within="customerData"),
                "birthDate": local_time("customerData.birthDate"),
                "levelAchievementDate": local_time("levelAchievementDate"),
                "createdAt": unix_time("customerData.registeredAt"),
                "address": LEGACY_ADDRESS,
                "company": UnlessEmpty(texts("name", "nip", within="customerData.company")),
                "loyaltyCardNumber": text("customerData.loyaltyCardNumber", none=""),
                "labels": each("customerData.customAttributes", {"key": text("key"), "value": free("value")}),
                "agreement1": flag("customerData.agreement1"),
                "agreement2": flag("customerData.agreement2"),
                "agreement3": flag("customerData.agreement3"),
                "referral_customer_email": text("referralCustomerEmail"),
                **texts("levelId", "posId", "sellerId"),
            },
        },
    ),
)
class CustomerRegistered(Data):
    customerId: Uuid = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    customerData: RegisteredCustomer = ABSENT
    levelAchievementDate: Annotated[DateTime, LEGACY_ONLY] = sample("2026-01-02T14:05:09+01:00")
    levelId: Annotated[Text, LEGACY_ONLY] = sample("7e6d5c4b-3a29-4180-9f6e-5d4c3b2a1908")
    posId: Annotated[Text, LEGACY_ONLY] = sample("a1b2c3d4-e5f6-4708-9a1b-2c3d4e5f6071")
    sellerId: Annotated[Text, LEGACY_ONLY] = sample("b2c3d4e5-f607-4819-8a2b-3c4d5e6f7081")
    referralCustomerEmail: Annotated[Email, LEGACY_ONLY] = sample("friend@example.com")


@event("A member's data were changed.", seed=True, legacy=LegacyForm("customer.updated", LEGACY_CUSTOMER))
class CustomerUpdated(Data):
    customer: Customer = ABSENT


@event("A member's account was switched off.", seed=True, legacy=LegacyForm("customer.deactivated", LEGACY_CUSTOMER))
class CustomerDeactivated(Data):
    customer: Customer = ABSENT


class ActivationCode(Data):
    """Data of every event that hands a member a code."""

    customer: Customer = ABSENT
    code: Annotated[Text, SECRET] = sample("K7Q2M9")
    codeNumber: Annotated[Integer, SECRET] = sample(482913)


LEGACY_CODE: dict[str, Shape] = {**LEGACY_CUSTOMER, "code": text("code")}


@event(
    "A member joined and still has to confirm with the code.",
    seed=True,
    legacy=LegacyForm("customer.registered_without_activation", LEGACY_CODE),
)
class CustomerWasRegisteredWithoutActivation(ActivationCode): ...


@event(
    "A member asked for the activation code once more.",
    seed=True,
    legacy=LegacyForm("customer.requested_send_activation_code", LEGACY_CODE),
)
class CustomerRequestedSendActivationCode(ActivationCode): ...


@event(
    "A member asked to set a new password, with the code.",
    seed=True,
    legacy=LegacyForm("customer.requested_password_reset", LEGACY_CODE),
)
class CustomerRequestedPasswordReset(ActivationCode): ...


@event(
    "A member's e-mail address was changed.",
    seed=True,
    legacy=LegacyForm("customer.email_was_changed", LEGACY_CUSTOMER),
)
class CustomerEmailWasChanged(ActivationCode): ...


@event(
    "A member's phone number was changed.",
    seed=True,
    legacy=LegacyForm("customer.phone_number_was_changed", LEGACY_CUSTOMER),
)
class CustomerPhoneNumberWasChanged(ActivationCode): ...


class Level(Data):
    levelId: Text = sample("8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a")
    name: Text = sample("Gold")
    levelMoveUp: Flag = sample(True)
    levelMoveDown: Flag = sample(False)


LEGACY_LEVEL: dict[str, Shape] = {
    **LEGACY_CUSTOMER,
    "levelId": text("level.levelId", none=""),
    "levelName": text("level.name"),
    "levelAchievementDate": local_time("levelAchievementDate"),
}


@event(
    "A member reached another level, or lost it.",
    seed=True,
    legacy=LegacyForm(
        "customer.level_changed",
        LEGACY_LEVEL,
        second=SecondWebhook(
            variant="automatic",
            when="automatic",
            type="customer.level_changed_automatically",
            data={**LEGACY_LEVEL, "levelMove": first_true({"up": "level.levelMoveUp", "down": "level.levelMoveDown"})},
        ),
    ),
)
class CustomerLevelChanged(Data):
    customer: Customer = ABSENT
    level: Level = ABSENT
    automatic: Annotated[Flag, LEGACY_ONLY] = sample(True)
    levelAchievementDate: Annotated[DateTime, LEGACY_ONLY] = sample("2026-01-02T14:05:09+01:00")


@event(
    "A member's level is recalculated on a day soon to come and will change.",
    seed=True,
    scheduled=True,
    legacy=LegacyForm(
        "account.expiring_level_notification",
        [{**LEGACY_MEMBER, **texts("levelId", "levelName", "futureLevelId", "futureLevelName")}],
    ),
)
class LevelWillExpire(Data):
    customerId: Uuid = sample("9c1f6a52-0d1b-4f6e-8b7c-2f3a4d5e6f70")
    customerEmail: Text = sample("member@example.com")
    customerPhone: Text = sample("+48500100200")
    customerLoyaltyCardNumber: Text = sample("4006381333931")
    customerFirstName: Text = sample("Alex")
    customerLastName: Text = sample("Example")
    levelId: Uuid = sample("8f7e6d5c-4b3a-4291-8078-6f5e4d3c2b1a")
    levelName: Text = sample("Gold")
    futureLevelId: Uuid = sample("7e6d5c4b-3a29-4180-9f6e-5d4c3b2a1908")
    futureLevelName: Text = sample("Silver")


class Segment(Data):
    segmentId: Uuid = sample("6d5c4b3a-2918-4070-8f5e-4d3c2b1a0918")
    segmentName: Text = sample("Weekend shoppers")
    previousCount: Integer = sample(1250)
    newCount: Integer = sample(1198)


@event("A segment lost members.")
class SegmentMembershipDropped(Data):
    segment: Segment = ABSENT
