"""The pages that are made of kept figures say what the figures say."""

import json

from bench import capacity, plots
from bench.pipeline import RESULTS


def test_the_capacity_page_is_that_of_the_figures() -> None:
    costs, assumed = capacity.unit_costs(), capacity.Assumptions()
    page = capacity.PAGE.read_text()
    assert capacity.table(costs, assumed) in page, "`python -m bench.capacity --write` makes it anew"
    assert capacity.basis(costs, assumed) in page


def test_the_comparison_on_the_page_is_that_of_the_figures() -> None:
    result = json.loads((RESULTS / "peers.json").read_text())
    assert plots.markdown(result) in plots.PAGE.read_text(), "`python -m bench.plots` makes it anew"
    assert plots.PICTURE.read_text() == plots.picture(result["figures"])
