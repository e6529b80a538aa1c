"""Trace export of a process, from the settings."""

import importlib

from commands.terminal import EXIT_USAGE, failed
from settings import Settings
from telemetry.tracing import NO_TRACES, Traces


def open_traces(settings: Settings, part: str) -> Traces:
    """Return the traces of the process `part`. Raises typer.Exit if the packages of the extra `tracing` are missing.

    Imports them only if traces are on: the import takes a third of a second and 20 MB.
    """
    if settings.otel_exporter_otlp_endpoint is None:
        return NO_TRACES
    try:
        export = importlib.import_module("telemetry.export")
    except ModuleNotFoundError as error:
        message = f"OTEL_EXPORTER_OTLP_ENDPOINT: {error.name} is not installed; it comes with the extra `tracing`"
        raise failed(message, EXIT_USAGE) from None
    traces: Traces = export.traces(settings.otel_exporter_otlp_endpoint, part)
    return traces
