"""Temporal servers shared by the tests of this folder."""

from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.temporal import real_server, skipping_server


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """The real server, one for the session."""
    async with real_server() as environment:
        yield environment


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """The time-skipping server, a fresh one: its clock is the test's own."""
    async with skipping_server() as environment:
        yield environment
