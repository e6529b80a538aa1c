"""Outputs of operator actions (wire contract, section 5)."""

from uuid import UUID

from api.body import Output


class SentTest(Output):
    """The delivery in which to see what came of the test."""

    message_id: UUID
