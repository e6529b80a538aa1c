"""Floors are judged by the figure or by its ratio, and sides are read as they are written."""

import argparse
from pathlib import Path

import pytest

from bench.floors import ALONE, FLOORS, LARGE, PAIRS, Floor, Measured, of_turns, of_two, table
from bench.sides import Side
from bench.stack import PROGRAM
from bench.works import RETRY_SECONDS, WORKS, lateness
from domain.delivery.retry import JITTER


@pytest.mark.parametrize(
    ("floor", "holds"),
    [
        (Floor("a.b", "", least=0.9, of_ratio=True), False),
        (Floor("a.b", "", least=0.8, of_ratio=True), True),
        (Floor("a.b", "", most=0.8, of_ratio=True), True),
        (Floor("a.b", "", most=79), False),
        (Floor("a.b", "", most=80), True),
    ],
)
def test_a_floor_bounds_the_new_figure_or_its_ratio_to_the_old_one(floor: Floor, holds: bool) -> None:
    assert floor.holds(Measured(old=100, new=80, ratio=0.8)) is holds


def test_every_floor_is_of_a_section_that_is_measured() -> None:
    sections = {*PAIRS, *ALONE, *(f"{name}-large" for name in LARGE), "retry"}
    assert {floor.figure.partition(".")[0] for floor in FLOORS} == sections
    assert set(PAIRS) <= set(WORKS)


def test_ratios_are_taken_pair_by_pair() -> None:
    turns = ([{"rate": 10.0}, {"rate": 100.0}, {"rate": 1.0}], [{"rate": 20.0}, {"rate": 50.0}, {"rate": 3.0}])
    assert of_turns(turns) == {"rate": Measured(10.0, 20.0, 2.0)}


def test_figures_of_two_runs_are_named_by_their_section() -> None:
    assert of_two({"slow": {"p50_ms": 4.0, "none": 0.0}}, {"slow": {"p50_ms": 5.0, "none": 1.0}}) == {
        "slow.p50_ms": Measured(4.0, 5.0, 1.25),
        "slow.none": Measured(0.0, 1.0, None),
    }


def test_the_table_has_a_line_for_each_floor_that_was_measured() -> None:
    measured = {floor.figure: Measured(1.0, 1.0, 1.0) for floor in FLOORS[:3]}
    assert table(measured, "development").row_count == 3


def test_a_retry_is_late_by_the_time_after_its_instant_with_the_jitter_of_its_message() -> None:
    message_id = "00000000-0000-4000-8000-000000000001"
    [late] = lateness([(message_id, RETRY_SECONDS + 1.0)])
    assert late == pytest.approx(1.0, abs=RETRY_SECONDS * JITTER)
    [later] = lateness([(message_id, RETRY_SECONDS + 2.0)])
    assert later - late == pytest.approx(1.0)


def test_a_side_is_a_checkout_with_settings_of_which_each_may_be_left_out(tmp_path: Path) -> None:
    program = tmp_path / ".venv/bin" / PROGRAM.name
    program.parent.mkdir(parents=True)
    program.touch()
    assert Side.parse("") == Side()
    assert Side.parse("BATCH_EVENTS=1").settings == {"BATCH_EVENTS": "1"}
    side = Side.parse(f"{tmp_path} OLD_SETTING=1")
    assert (side.program, side.settings) == (program, {"OLD_SETTING": "1"})


@pytest.mark.parametrize("text", ["/nowhere", "BATCH_EVENTS=", "NO_SUCH_SETTING=1"])
def test_a_side_that_cannot_be_measured_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        Side.parse(text)
