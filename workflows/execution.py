"""Execution of activities by workflows, in the one way that `temporal/guards.py` prepares them for."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from temporal.retries import HEARTBEAT_TIMEOUT, INTERNAL_ERRORS

R = TypeVar("R")


async def execute(
    activity: Callable[..., Awaitable[R]], *arguments: Any, timeout: timedelta, summary: str | None = None
) -> R:
    """Execute an activity with heartbeats. A fault of the worker or the database is retried until it passes."""
    return await workflow.execute_activity_method(
        activity,
        args=arguments,
        start_to_close_timeout=timeout,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=INTERNAL_ERRORS,
        summary=summary,
    )
