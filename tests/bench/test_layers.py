"""Whose time a sample of the worker is."""

from pathlib import Path

import pytest

import domain
from bench.layers import ELSEWHERE, LAYERS, layer_of, read_samples

ROOT = Path(domain.__file__).parents[1]
SITE = "/storage/app/.venv/lib/python3.11/site-packages"
LOOP = "run (/usr/lib/python3.11/asyncio/runners.py:118)"


@pytest.mark.parametrize(
    ("innermost", "layer"),
    [
        (f"send ({ROOT}/sending/http/client.py:40)", "HTTP requests"),
        (f"read ({ROOT}/sending/drain/round.py:7)", "attempts, beside the above"),
        (f"sign ({ROOT}/domain/wire/signing.py:3)", "bodies and signatures"),
        (f"<lambda> ({ROOT}/storage/deliveries/attempts.py:3)", "statements"),
        (f"fetch ({SITE}/asyncpg/connection.py:1)", "driver and pool"),
        (f"activate ({SITE}/temporalio/worker/_workflow.py:1)", "Temporal's SDK, in Python"),
        (f"claim ({ROOT}/relay/relay.py:9)", "relay"),
        (f"dumps ({SITE}/unheard/of.py:1)", "event loop"),
    ],
)
def test_a_sample_is_that_of_its_innermost_known_file(innermost: str, layer: str) -> None:
    assert layer_of(f"<module> (/x/bin/loyalty-webhooks:8);{LOOP};{innermost}") == layer


def test_samples_are_summed_and_what_is_unknown_is_elsewhere() -> None:
    main = f"main ({ROOT}/cli.py:1)"
    raw = f"{main};{LOOP} 3\n{main} 2\n{main};{LOOP};f ({ROOT}/workflows/deliver.py:2) 4\n"
    assert read_samples(raw) == {"event loop": 3, ELSEWHERE: 2, "workflows": 4}


def test_threads_that_wait_for_work_are_left_out() -> None:
    waiting = "run (/x/threading.py:982);_worker (/usr/lib/python3.11/concurrent/futures/thread.py:81)"
    assert read_samples(f"{waiting} 5\n 2\n{waiting};f ({ROOT}/domain/wire/signing.py:2) 1\n") == {
        "bodies and signatures": 1
    }


def test_each_file_that_is_named_is_there() -> None:
    own = [place for places in LAYERS.values() for place in places if place.startswith(("sending", "domain"))]
    assert own
    assert all(list(ROOT.glob(f"{place.removesuffix('.py')}*")) for place in own)
