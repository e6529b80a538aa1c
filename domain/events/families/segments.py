"""Events of segments: groups of members by behaviour."""

# ruff: noqa: N815 -- fields are named as on the wire

from __future__ import annotations

from domain.events.event_type import EventType
from domain.events.fields import ABSENT, Data, Integer, Text, Uuid


class Segment(Data):
    segmentId: Uuid = ABSENT
    segmentName: Text = ABSENT
    previousCount: Integer = ABSENT
    newCount: Integer = ABSENT


class SegmentMembershipDropped(Data):
    segment: Segment = ABSENT


SEGMENT_MEMBERSHIP_DROPPED = EventType(
    name="SegmentMembershipDropped",
    description="A segment lost members.",
    model=SegmentMembershipDropped,
    sample={
        "segment": {
            "segmentId": "6d5c4b3a-2918-4070-8f5e-4d3c2b1a0918",
            "segmentName": "Weekend shoppers",
            "previousCount": 1250,
            "newCount": 1198,
        }
    },
)
