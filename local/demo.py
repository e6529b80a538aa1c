"""Demo of `up`: a receiver of each event that has both formats, one sample of each, and a display of the deliveries.

Scheduled events are not emitted as samples: the demo creates an expiry row of each kind and triggers its schedule.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from rich import box
from rich.live import Live
from rich.table import Table
from rich.text import Text

from domain.delivery.identity import message_id
from domain.events.catalogue import CATALOGUE
from domain.expiry.calendar_days import day_start, local_day
from domain.expiry.rows import EVENT_NAMES, Kind, notice_id
from domain.timestamps import utc_text, zone
from domain.wire.bodies import MAIN, variants
from domain.wire.jsontext import dump
from local.event_sender import api_client
from local.ports import HOST
from local.receiver import ReceivedRequest, Receiver
from local.screen import Screen
from local.stack_file import Stack

PAGE_ITEMS = 50
"""Maximum page size of the API. The demo has 34 subscriptions."""

NAME_PREFIX = "Demo: "
FORMATS = ("modern", "legacy")
ARRIVE_WITHIN_SECONDS = 60.0
REFRESHES_PER_SECOND = 12
LINES_PER_SECOND = 20
"""Maximum printed lines per second for requests after the demo. More requests are counted only."""

MEMBER = {
    "customerEmail": "member@example.com",
    "customerPhone": "+48500100200",
    "customerLoyaltyCardNumber": "4006381333931",
    "customerFirstName": "Alex",
    "customerLastName": "Example",
}
POINTS = {"points": 120, "remainingPoints": 80, "type": "add", "status": "active", "walletCode": "default"}
LEVELS = {"levelName": "Gold", "futureLevelName": "Silver"}
COUPONS = {"code": "SPRING-4F7K", "status": "active", "used": False}
EXPIRY_ROWS: dict[Kind, tuple[str, str, tuple[str, ...], str, dict[str, Any]]] = {
    Kind.POINTS: ("expirePointsNotificationDays", "pointTransfer", ("customerId", "accountId"), "expiresAt", POINTS),
    Kind.LEVELS: ("expireLevelsNotificationDays", "memberLevel", ("levelId", "futureLevelId"), "recalculateAt", LEVELS),
    Kind.COUPONS: ("expireCouponsNotificationDays", "issuedCoupon", ("customerId", "rewardId"), "activeTo", COUPONS),
}
"""By kind: setting of the days before, key of the body, fields with an id, field with the instant, other fields."""

SEEDS = {name: event_type for name, event_type in CATALOGUE.items() if event_type.seed}
"""Events of the demo, each with its sample."""

Cell = tuple[str, str]
"""Event name and format."""


class DemoError(Exception):
    """The API refused a call of the demo. The message holds its response."""


@dataclass(frozen=True)
class DemoNotice:
    """An expiry row (`body` of its PUT), with the id of the event that a scan of its day emits."""

    kind: Kind
    identity: UUID
    body: dict[str, Any]
    event_id: UUID


class DemoClient:
    """Calls of the demo to the API of one store."""

    def __init__(self, client: httpx.AsyncClient, store: str) -> None:
        self._client = client
        self._store = store

    async def ensure_subscriptions(self, receiver: str) -> dict[Cell, UUID]:
        """Subscribe the receiver (its root URL) to every seed event in both formats. Reuses existing subscriptions."""
        query = {"name[like]": NAME_PREFIX, "_itemsOnPage": str(PAGE_ITEMS)}
        listed = await self._call("GET", "/webhook/subscription", params=query)
        existing = {row["name"]: row for row in listed["items"]}
        subscriptions = {}
        for event_name in SEEDS:
            for form in FORMATS:
                name = f"{NAME_PREFIX}{event_name}, {form}"
                wanted = {"url": f"{receiver}/demo/{form}/{event_name}", "name": name, "legacy": form == "legacy"}
                row = existing.get(name)
                if row is None:
                    body = {"eventName": event_name, "hmacEnabled": True, **wanted}
                    row = await self._call("POST", "/webhook/subscription", json={"webhookSubscription": body})
                elif row["url"] != wanted["url"]:  # the receiver got another port this time
                    path = f"/webhook/subscription/{row['webhookSubscriptionId']}"
                    await self._call("PUT", path, json={"webhookSubscription": wanted})
                subscriptions[event_name, form] = UUID(row["webhookSubscriptionId"])
        return subscriptions

    async def emit_sample(self, event_name: str, event_id: UUID) -> None:
        """Emit the event's sample under this id."""
        sample = dump(SEEDS[event_name].sample)
        text = f'{{"event":{{"eventName":"{event_name}","eventId":"{event_id}","data":{sample}}}}}'
        await self._call("POST", "/event", content=text, headers={"Content-Type": "application/json"})

    async def notices(self) -> dict[str, DemoNotice]:
        """Return a row of each kind that expires on the day due today, by the name of its event."""
        settings = (await self._call("GET", "/settings"))["settings"]
        now, store_zone = datetime.now(UTC), zone(settings["timezone"])
        notices = {}
        for kind, (days, wrapper, ids, instant_field, fields) in EXPIRY_ROWS.items():
            day = local_day(now, store_zone) + timedelta(days=settings[days])
            instant = day_start(day, store_zone) + timedelta(hours=12)
            instants = {instant_field: utc_text(instant), "updatedAt": utc_text(now)}
            row = {**fields, **{name: str(uuid4()) for name in ids}, **MEMBER, **instants}
            identity = uuid4()
            event_id = notice_id(self._store, kind, identity, instant)
            notices[EVENT_NAMES[kind]] = DemoNotice(kind, identity, {wrapper: row}, event_id)
        return notices

    async def trigger(self, notice: DemoNotice) -> None:
        """Create the expiry row and trigger a scan of its day."""
        await self._call("PUT", f"/expiry/{notice.kind}/{notice.identity}", json=notice.body)
        await self._call("POST", f"/schedule/{notice.kind}/trigger")

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = await self._client.request(method, f"/api/{self._store}{path}", **arguments)
            if not response.is_success:
                raise DemoError(f"{method} {path} returned {response.status_code}: {response.text[:500]}")
            return response.json() if response.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise DemoError(f"{method} {path} failed: {str(error) or type(error).__name__}") from error


@dataclass
class Deliveries:
    """Deliveries of one event in one format: expected count, and the seconds until each arrival."""

    expected: int = 0
    emitted: float = 0.0
    arrived: list[float] = field(default_factory=list)

    def text(self) -> Text:
        """Return the table cell: a mark per delivery and the milliseconds since the event was emitted."""
        if not self.emitted:
            return Text("·", style="dim")
        marks = "✓" * len(self.arrived) + "…" * (self.expected - len(self.arrived))
        milliseconds = f" {max(self.arrived) * 1000:.0f} ms" if self.arrived else ""
        return Text(marks + milliseconds, style="green" if len(self.arrived) >= self.expected else "yellow")


class DemoBoard:
    """Counter of the deliveries of one round of samples, each once by message id; a table row per event."""

    def __init__(self, awaited: Mapping[UUID, tuple[Cell, str]]) -> None:
        """Take the cell and the variant of each message."""
        self.expected = len(awaited)
        self._awaited = dict(awaited)
        self._cells: dict[Cell, Deliveries] = {}
        for cell, _ in awaited.values():
            self._cells.setdefault(cell, Deliveries()).expected += 1

    def emitting(self, event_name: str) -> None:
        """Note the time at which the event is emitted."""
        for form in FORMATS:
            self._cells[event_name, form].emitted = time.monotonic()

    def arrive(self, message: UUID) -> tuple[str, float] | None:
        """Record a message. Return event name, format and variant in words, and the seconds since the event was
        emitted. Returns None if the message is not part of this round or arrived before."""
        awaited = self._awaited.pop(message, None)
        if awaited is None:
            return None
        cell, variant = awaited
        deliveries = self._cells[cell]
        deliveries.arrived.append(time.monotonic() - deliveries.emitted)
        return ", ".join(cell if variant == MAIN else (*cell, variant)), deliveries.arrived[-1]

    @property
    def arrived(self) -> int:
        return self.expected - len(self._awaited)

    def table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, footer_style="bold", show_footer=True)
        table.add_column("Event", footer="Deliveries arrived", no_wrap=True)
        for form, footer in zip(FORMATS, (f"{self.arrived} of {self.expected}", ""), strict=True):
            table.add_column(form.capitalize(), footer=footer, min_width=10, no_wrap=True)
        for event_name in dict.fromkeys(name for name, _ in self._cells):
            table.add_row(event_name, *(self._cells[event_name, form].text() for form in FORMATS))
        return table


class Demo:
    """A receiver on this machine and a round of samples sent to it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._receiver = Receiver(on_request=self._received)
        self._board: DemoBoard | None = None
        self._complete = asyncio.Event()
        self._second = 0
        self._lines = 0
        """Requests after the demo in this second."""

    async def run(self, stack: Stack, port: int) -> str:
        """Receive on the port, emit the samples, return the result when all have arrived or after a minute."""
        try:
            await self._receiver.start(HOST, port)
            async with api_client(stack.api, stack.api_key) as http:
                client = DemoClient(http, stack.store)
                self._screen.begin(f"Subscribing the demo's receiver to {len(SEEDS)} events, in both formats")
                subscriptions = await client.ensure_subscriptions(f"http://{HOST}:{port}")
                self._screen.end()
                result = await self._emit_and_watch(client, subscriptions)
        except (DemoError, OSError) as error:
            self._screen.end()
            result = f"The demo failed: {error}"
        self._screen.say(result, style="green" if result.endswith("arrived.") else "yellow")
        return result

    async def stop(self) -> None:
        await self._receiver.stop()

    async def _emit_and_watch(self, client: DemoClient, subscriptions: Mapping[Cell, UUID]) -> str:
        notices = await client.notices()
        event_ids = {name: notices[name].event_id if name in notices else uuid4() for name in SEEDS}
        board = self._board = DemoBoard(
            {
                message_id(event_ids[name], subscription, variant): ((name, form), variant)
                for (name, form), subscription in subscriptions.items()
                for variant in variants(name, dump(SEEDS[name].sample), form == "legacy")
            }
        )
        with self._shown(board):
            for name, event_id in event_ids.items():
                board.emitting(name)
                if name in notices:
                    await client.trigger(notices[name])
                else:
                    await client.emit_sample(name, event_id)
            began = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), ARRIVE_WITHIN_SECONDS)
        result = f"{board.arrived} of {board.expected} deliveries of {len(event_ids)} events arrived."
        if board.arrived < board.expected:
            result += f" {time.monotonic() - began:.0f} s have passed; the Temporal UI shows the others."
        return result

    @contextlib.contextmanager
    def _shown(self, board: DemoBoard) -> Iterator[None]:
        if not self._screen.console.is_terminal:
            yield
            return
        with Live(
            console=self._screen.console,
            get_renderable=board.table,
            refresh_per_second=REFRESHES_PER_SECOND,
            vertical_overflow="crop",
        ) as live:
            yield
            live.vertical_overflow = "visible"

    def _received(self, request: ReceivedRequest) -> None:
        board, arrival = self._board, None
        if board is not None:
            with contextlib.suppress(ValueError):  # not a message id
                arrival = board.arrive(UUID(request.message_id or ""))
        if board is None or arrival is None:
            self._say_later_one(request)
            return
        if not self._screen.console.is_terminal:
            words, seconds = arrival
            self._screen.say(f"{seconds * 1000:6.0f} ms  {words}")
        if board.arrived == board.expected:
            self._complete.set()

    def _say_later_one(self, request: ReceivedRequest) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._lines > LINES_PER_SECOND:
                self._screen.note(f"… and {self._lines - LINES_PER_SECOND} more")
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            again = " (again)" if request.duplicate else ""
            self._screen.note(f"received {request.event_name}, {request.format}{again}")
