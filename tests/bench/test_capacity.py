"""The arithmetic of sizes."""

from bench.capacity import COMPONENTS, Assumptions, UnitCosts, sizes

COSTS = UnitCosts(
    event_cpu=dict.fromkeys(COMPONENTS, 0.0001),
    delivery_cpu=dict.fromkeys(COMPONENTS, 0.0002),
    retry_cpu=dict.fromkeys(COMPONENTS, 0.01),
    stored_bytes={"event": 600, "event_body": 400, "delivery": 800, "attempt": 300},
    wal_bytes=4000,
    batch_bytes=45_000,
    waiting_bytes=23_000,
)
EVEN = Assumptions(peak=1, fan_out=2, failing=0, utilisation=0.5)
PER_DAY_OF_10_000_A_SECOND = 864e6


def test_cores_are_what_events_and_deliveries_cost_at_the_peak_by_the_utilisation() -> None:
    found = sizes(COSTS, EVEN, PER_DAY_OF_10_000_A_SECOND)
    assert found["cores of PostgreSQL"] == "5"  # (5,000 × 0.1 ms + 10,000 × 0.2 ms) / 0.5


def test_each_delivery_that_fails_at_first_costs_an_activity_and_waits_as_long_as_is_assumed() -> None:
    found = sizes(
        COSTS, Assumptions(peak=1, fan_out=2, failing=0.1, wait_hours=1, utilisation=1, batch_events=300), 8.64e6
    )
    assert found["deliveries that wait for a retry, and those of them in Temporal"] == "36,000, 1,000"  # 10/s, an hour
    assert found["workflows and activities started a second at the peak"] == "10.2"  # and 50 events in batches of 300


def test_retries_beyond_the_overload_limits_cost_temporal_nothing() -> None:
    assumed = Assumptions(peak=1, fan_out=2, failing=1, wait_hours=1, utilisation=1)
    few, many = sizes(COSTS, assumed, 86_400 * 20), sizes(COSTS, assumed, 86_400 * 200)
    cores = "cores of Temporal (here with its database)"
    assert few[cores] == many[cores] == "1"
    assert many["workflows and activities started a second at the peak"] == "20.2"  # and 100 events in batches of 600
    assert many["Temporal's database"] == "4.5 GiB"  # four days of 600 batches and 1,000 activities an hour


def test_two_workers_at_least_so_that_one_can_stop() -> None:
    assert sizes(COSTS, EVEN, 1000)["worker processes of a core"] == "2"
