"""The bench of the panel's pages knows every page."""

from collections import defaultdict

from api.panel.app import named_routes
from bench.panel_pages import PARAMETERS, VARIANTS, addresses


def test_every_page_that_is_looked_at_is_measured() -> None:
    looked_at = {route.name: route for route in named_routes().values() if route.method == "GET"}
    unknown = {name: set(route.parameters) - PARAMETERS for name, route in looked_at.items()}
    assert {name: lacking for name, lacking in unknown.items() if lacking} == {}, "bench/panel_pages.py: _values"
    assert set(VARIANTS) <= set(looked_at)
    measured = list(addresses(defaultdict(lambda: "x")))
    assert {name for name, _, _ in measured} == set(looked_at)
