"""Demo of `up`: a receiver subscribed to every event, one sample of each, and a display of the deliveries.

Scheduled events are not emitted as samples: the demo creates an expiry row of each kind and triggers its schedule.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID, uuid4

from rich.live import Live

from domain.delivery.identity import message_id
from domain.events.catalogue import CATALOGUE
from local.demo_board import DemoBoard
from local.demo_client import DemoClient, DemoError, DemoSubscription, expected_variants, seed_events
from local.ports import HOST
from local.receiver import ReceivedRequest, Receiver
from local.screen import Screen
from local.stack_file import Stack

ARRIVE_WITHIN_SECONDS = 60.0
REFRESHES_PER_SECOND = 12
LINES_PER_SECOND = 20
"""Maximum printed lines per second for requests after the demo. More requests are counted only."""


class Demo:
    """A receiver on this machine and a round of samples sent to it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._receiver = Receiver(on_request=self._received)
        self._board: DemoBoard | None = None
        self._complete = asyncio.Event()
        self._second = 0
        self._lines = 0
        self._skipped = 0

    async def run(self, stack: Stack, port: int) -> None:
        """Receive on the port, emit the samples, return when all have arrived or after a minute."""
        try:
            await self._receiver.start(HOST, port)
            async with DemoClient(stack) as client:
                self._screen.begin("Subscribing the demo's receiver to every event")
                subscriptions = await client.ensure_subscriptions(f"http://{HOST}:{port}")
                self._screen.end()
                await self._emit_and_watch(client, subscriptions)
        except (DemoError, OSError) as error:
            self._screen.end()
            self._screen.note(f"The demo failed: {error}")

    async def stop(self) -> None:
        """Stop the receiver."""
        await self._receiver.stop()

    async def _emit_and_watch(self, client: DemoClient, subscriptions: list[DemoSubscription]) -> None:
        notices = await client.notices()
        event_ids = {
            event_type.name: notices[event_type.name].event_id if event_type.name in notices else uuid4()
            for event_type in seed_events()
        }
        board = self._board = DemoBoard(_expected(event_ids, subscriptions))
        with self._shown(board):
            for event_type in seed_events():
                board.emitting(event_type.name)
                if event_type.name in notices:
                    await client.trigger(notices[event_type.name])
                else:
                    await client.emit_sample(event_type, event_ids[event_type.name])
            began = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), ARRIVE_WITHIN_SECONDS)
        said = f"{board.arrived} of {board.expected} deliveries of {len(event_ids)} events arrived"
        if board.complete:
            self._screen.say(f"{said}.", style="green")
        else:
            self._screen.note(f"{said} within {time.monotonic() - began:.0f} s; the Temporal UI shows the others.")

    @contextlib.contextmanager
    def _shown(self, board: DemoBoard) -> Iterator[None]:
        if not self._screen.is_terminal:
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
        board, message = self._board, _message(request)
        arrival = board.arrive(message) if board and message else None
        if board is None or arrival is None:
            self._say_later_one(request)
            return
        if not self._screen.is_terminal:
            self._screen.say(f"{arrival.seconds * 1000:6.0f} ms  {arrival.event_name}, {arrival.format}")
        if board.complete:
            self._complete.set()

    def _say_later_one(self, request: ReceivedRequest) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._skipped:
                self._screen.note(f"… and {self._skipped} more")
            self._second, self._lines, self._skipped = second, 0, 0
        if self._lines >= LINES_PER_SECOND:
            self._skipped += 1
            return
        self._lines += 1
        self._screen.note(f"received {request.event_name}, {request.format}{' (again)' if request.duplicate else ''}")


def _message(request: ReceivedRequest) -> UUID | None:
    try:
        return UUID(request.message_id or "")
    except ValueError:
        return None


def _expected(event_ids: Mapping[str, UUID], subscriptions: Sequence[DemoSubscription]) -> dict[UUID, tuple[str, str]]:
    """Map every message id that the samples produce to event name and format."""
    return {
        message_id(event_ids[subscription.event_name], subscription.id, variant): (
            subscription.event_name,
            subscription.format,
        )
        for subscription in subscriptions
        for variant in expected_variants(CATALOGUE[subscription.event_name], subscription.format)
    }
