"""What the comparison says of its figures."""

from typing import Any
from xml.etree import ElementTree

from bench.peers.lineup import EVERYBODY, OURS, PEERS
from bench.peers.table import summary, verdicts
from bench.peers.work import EVENT_NAMES, new_event
from bench.plots import picture
from domain.events.catalogue import CATALOGUE, validate_data


def turns(*rates: int) -> list[dict[str, Any]]:
    burst = [{"per_second": rate, "cpu_seconds_per_1000": 0.5, "repeated": 0} for rate in rates]
    return [{"burst_1": one, "burst_5": one, "idle": {"p50_ms": 10.0, "p99_ms": 40.0}} for one in burst]


def test_a_contestant_is_judged_by_its_median_round() -> None:
    figures = summary(OURS, turns(100, 900, 300))
    assert figures["burst_1"]["per_second"] == {"median": 300, "least": 100, "most": 900}


def test_what_is_not_held_is_said() -> None:
    figures = {OURS.name: summary(OURS, turns(1200))} | {one.name: summary(one, turns(1000)) for one in PEERS}
    said = {
        words.partition(":")[0]: verdict for verdict, _, words in (line.partition("  ") for line in verdicts(figures))
    }
    assert said["times taskiq, 1 subscription"] == "FAILS"  # 1.2 of at least 1.3
    assert said["times bare, 1 subscription"] == "holds"  # 1.2 of at least 0.7
    assert said["CPU s per 1,000, 5 subscriptions"] == "holds"


def test_by_https_other_ratios_are_wanted() -> None:
    figures = {OURS.name: summary(OURS, turns(1500))} | {one.name: summary(one, turns(1000)) for one in PEERS}
    http, by_https = verdicts(figures), verdicts(figures, tls=True)
    assert "holds  times taskiq, 1 subscription: 1.50 (at least 1.3)" in http
    assert "FAILS  times taskiq, 1 subscription: 1.50 (at least 1.6)" in by_https
    assert "holds  times bare, 5 subscriptions: 1.50 (at least 0.8)" in by_https


def test_one_that_did_not_take_part_is_not_judged() -> None:
    figures = {OURS.name: summary(OURS, turns(1200))}
    assert not any("times" in line for line in verdicts(figures))


def test_every_event_that_is_emitted_is_one_our_api_accepts() -> None:
    for name in EVENT_NAMES.values():
        assert validate_data(CATALOGUE[name], new_event(name)["data"]) == []


def test_names_are_unique_because_figures_are_kept_by_them() -> None:
    assert len({one.name for one in EVERYBODY}) == len(EVERYBODY)


def test_the_picture_is_well_formed_and_has_a_bar_for_everybody_in_each_kind_of_burst() -> None:
    drawn = ElementTree.fromstring(picture({one.name: summary(one, turns(100, 300, 200)) for one in EVERYBODY}))
    bars = drawn.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 2 * len(EVERYBODY)  # the first is the background
