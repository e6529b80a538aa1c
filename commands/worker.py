"""`loyalty-webhooks worker`: run the relay and the Temporal worker."""

import gc

import uvloop

from commands.configuration import raise_descriptor_limit, read_settings
from commands.traces import open_traces
from telemetry.logs import configure_logs
from worker import run

GC_THRESHOLD = 200_000
"""New objects between two runs of the cyclic garbage collector: more than live in a burst, in which a run would take
tens of milliseconds and find nothing. Python's default of 700 makes bursts a fifth slower (docs/performance.md)."""


def worker() -> None:
    """Run one worker process, which delivers the accepted events.

    Settings come from the environment (docs/settings.md): DATABASE_URL, ENCRYPTION_KEYS, TEMPORAL_ADDRESS and others.
    Several workers may run side by side. SIGTERM or Ctrl-C completes the attempts in flight, then stops.
    """
    settings = read_settings()
    configure_logs(settings.log_format, settings.log_level)
    raise_descriptor_limit()
    gc.set_threshold(GC_THRESHOLD)
    traces = open_traces(settings, "worker")
    try:
        uvloop.run(run(settings, traces))
    finally:
        traces.close()
