"""Whether this process sends traces, and where to."""

import importlib

import typer

from commands.complaints import complain
from commands.configuration import EXIT_USAGE
from settings import Settings
from telemetry.tracing import NO_TRACES, Traces


def open_traces(settings: Settings, part: str) -> Traces:
    """The traces of the process `part`, as the settings ask for. Ends the command where packages for it are missing.

    They are imported only here, and only then: that takes a third of a second and 20 MB.
    """
    if settings.otel_exporter_otlp_endpoint is None:
        return NO_TRACES
    try:
        export = importlib.import_module("telemetry.export")
    except ModuleNotFoundError as error:
        complain(f"OTEL_EXPORTER_OTLP_ENDPOINT: {error.name} is not installed; it comes with the extra `tracing`")
        raise typer.Exit(EXIT_USAGE) from None
    traces: Traces = export.traces(settings.otel_exporter_otlp_endpoint, part)
    return traces
