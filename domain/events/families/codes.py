"""Events that hand a member a code: to activate an account, to confirm a change, to set a new password."""

from __future__ import annotations

from domain.events.event_type import EventType
from domain.events.families.parts import ACTIVATION_CODE_SAMPLE, ActivationCode
from domain.wire.legacy import LegacyForm, text


class CustomerWasRegisteredWithoutActivation(ActivationCode):
    pass


CUSTOMER_WAS_REGISTERED_WITHOUT_ACTIVATION = EventType(
    name="CustomerWasRegisteredWithoutActivation",
    description="A member joined and still has to confirm with the code.",
    model=CustomerWasRegisteredWithoutActivation,
    seed=True,
    legacy=LegacyForm(
        "customer.registered_without_activation",
        {"customerId": text("customer.customerId"), "code": text("code")},
    ),
    sample=ACTIVATION_CODE_SAMPLE,
)


class CustomerRequestedSendActivationCode(ActivationCode):
    pass


CUSTOMER_REQUESTED_SEND_ACTIVATION_CODE = EventType(
    name="CustomerRequestedSendActivationCode",
    description="A member asked for the activation code once more.",
    model=CustomerRequestedSendActivationCode,
    seed=True,
    legacy=LegacyForm(
        "customer.requested_send_activation_code",
        {"customerId": text("customer.customerId"), "code": text("code")},
    ),
    sample=ACTIVATION_CODE_SAMPLE,
)


class CustomerRequestedPasswordReset(ActivationCode):
    pass


CUSTOMER_REQUESTED_PASSWORD_RESET = EventType(
    name="CustomerRequestedPasswordReset",
    description="A member asked to set a new password, with the code.",
    model=CustomerRequestedPasswordReset,
    seed=True,
    legacy=LegacyForm(
        "customer.requested_password_reset",
        {"customerId": text("customer.customerId"), "code": text("code")},
    ),
    sample=ACTIVATION_CODE_SAMPLE,
)


class CustomerEmailWasChanged(ActivationCode):
    pass


CUSTOMER_EMAIL_WAS_CHANGED = EventType(
    name="CustomerEmailWasChanged",
    description="A member's e-mail address was changed.",
    model=CustomerEmailWasChanged,
    seed=True,
    legacy=LegacyForm("customer.email_was_changed", {"customerId": text("customer.customerId")}),
    sample=ACTIVATION_CODE_SAMPLE,
)


class CustomerPhoneNumberWasChanged(ActivationCode):
    pass


CUSTOMER_PHONE_NUMBER_WAS_CHANGED = EventType(
    name="CustomerPhoneNumberWasChanged",
    description="A member's phone number was changed.",
    model=CustomerPhoneNumberWasChanged,
    seed=True,
    legacy=LegacyForm("customer.phone_number_was_changed", {"customerId": text("customer.customerId")}),
    sample=ACTIVATION_CODE_SAMPLE,
)
