"""The pages that are made of kept figures say what the figures say."""

import json

from bench import capacity, plots
from bench.figures import OLDER
from bench.pipeline import RESULTS


def test_the_capacity_page_is_that_of_the_figures() -> None:
    costs, assumed = capacity.unit_costs(), capacity.Assumptions()
    page = capacity.PAGE.read_text()
    assert capacity.table(costs, assumed) in page, "`python -m bench.capacity --write` makes it anew"
    assert capacity.basis(costs, assumed) in page


def test_the_comparison_on_the_page_is_that_of_the_figures() -> None:
    result = json.loads((RESULTS / "peers.json").read_text())
    page = plots.PAGE.read_text().replace(OLDER, "")
    for part, text in plots.parts().items():
        marked = f"<!-- {part} -->\n\n{text.replace(OLDER, '')}\n\n<!-- end of {part} -->"
        assert marked in page, "`python -m bench.plots` makes it anew"
    assert plots.PICTURE.read_text() == plots.picture(result["figures"])


def test_a_part_of_the_page_is_made_once_and_replaced_then() -> None:
    kind = {"title": "HTTPS", "p50_ms": 1.0, "p99_ms": 2.0, "sender_cpu_ms": 0.5, "receiver_cpu_ms": 0.25}
    idle, burst = {"p50_ms": 10.0, "p99_ms": 40.0}, {"per_second_median": 4000}
    figures = {"idle": idle, "idle-https": idle, "burst-1": burst, "burst-https": burst}
    figures["handshakes"] = {"kinds": {"https-full": kind}}
    facts = {"at": "2026-01-02T03:04:05+00:00", "load_before": 0.5}
    text = plots.https({name: ({"machine": facts, "figures": one}, True) for name, one in figures.items()})
    assert text.startswith(f"2026-01-02, commit not kept, load before 0.5{OLDER}:")
    assert "| HTTPS | 1.00 | 2.00 | 0.50 | 0.25 |" in text
    once = plots.placed("# Page\n", "HTTPS", "before")
    assert plots.placed(once, "HTTPS", text) == f"# Page\n\n<!-- HTTPS -->\n\n{text}\n\n<!-- end of HTTPS -->\n"
