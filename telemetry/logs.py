"""Logging of every process to standard error: one line per record, JSON for machines or plain text for people."""

import logging
import sys
import time
from math import inf

import structlog
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

QUIET = {"httpx": "WARNING", "alembic": "WARNING"}
"""Minimum level of libraries that would otherwise log every request."""


REPEATED_SECONDS = 60.0
"""Interval of a log line that every try of an outage, or every connection of a flood, would write."""


class Repeated:
    """Levels of a log line that may be written many times a second."""

    def __init__(self, level: int = logging.WARNING) -> None:
        self._level = level
        self._at = -inf

    def level(self) -> int:
        """Return the level of the line now: its own the first time and once a minute, else DEBUG."""
        if time.monotonic() - self._at < REPEATED_SECONDS:
            return logging.DEBUG
        self._at = time.monotonic()
        return self._level


def _trace_ids(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the ids of the current trace and span to the record, if there is one."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"], line["span_id"] = format_trace_id(context.trace_id), format_span_id(context.span_id)
    return line


def configure_logs(log_format: str, log_level: str) -> None:
    """Send all logging through one formatter. `log_format` is json or text."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _trace_ids,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
