"""Responses of operator actions (wire contract, section 5)."""

from uuid import UUID

from api.body import Output


class SentTest(Output):
    """The delivery that records the outcome of the test."""

    message_id: UUID
