"""Settings → Events: the catalogue with the bodies that receivers get. The webhook form shows one event of it."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple
from uuid import uuid4

from starlette.responses import Response

from api.errors import existing
from api.panel.frame.page import Page, PanelRoutes
from domain.access import Scope
from domain.events.catalogue import CATALOGUE
from domain.events.event_type import EventType
from domain.events.examples import example_facts
from domain.wire.bodies import MAIN, legacy_body, modern_body, modern_data_text

pages = PanelRoutes()


class EventSample(NamedTuple):
    """An event with the bodies of its sample, as a receiver of the page's store gets them."""

    event_type: EventType
    modern: bytes
    legacy: list[bytes]
    """Empty if the event has no legacy format."""


@pages.get("/{storeCode}/event-types", Scope.SUBSCRIPTION_READ)
async def listed(page: Page) -> Response:
    """Show every event, by family."""
    families = [(family, [sample_of(one, page) for one in events]) for family, events in by_family()]
    return page.render("event_types/list.html", families=families, count=len(CATALOGUE))


@pages.get("/{storeCode}/event-types/{eventName}", Scope.SUBSCRIPTION_READ)
async def sample(page: Page) -> Response:
    """Return the description and the bodies of one event, for the script of the webhook form."""
    event_type = existing(CATALOGUE.get(page.request.path_params["eventName"]))
    return page.render("event_types/sample.html", one=sample_of(event_type, page))


def by_family() -> list[tuple[str, list[EventType]]]:
    """Return the families, named by their modules, with their events; both in alphabetical order."""

    def family(one: EventType) -> str:
        return one.model.__module__.rpartition(".")[2].capitalize()

    return [(name, list(events)) for name, events in groupby(sorted(CATALOGUE.values(), key=family), family)]


def samples_of(names: Iterable[str], page: Page) -> list[EventSample]:
    """Return the samples of those names that are events."""
    return [sample_of(CATALOGUE[name], page) for name in names if name in CATALOGUE]


def sample_of(event_type: EventType, page: Page) -> EventSample:
    """Return the event with its bodies in the page's store."""
    facts = replace(example_facts(event_type), store_code=page.store_code)
    modern = modern_body(facts, modern_data_text(facts.name, facts.data_text), uuid4(), uuid4())
    form = event_type.legacy
    variants = [] if form is None else [MAIN, *([form.second.variant] if form.second else [])]
    return EventSample(event_type, modern, [legacy_body(facts, variant, page.store.timezone) for variant in variants])
