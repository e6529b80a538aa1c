"""Fixtures of the tests of sending."""

import pytest


@pytest.fixture(autouse=True)
def patient(patient_batches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that wait for their attempts, failing ones too, and connects that a busy machine does not cut short."""
    monkeypatch.setattr("activities.deliver.FIRST_ATTEMPTS_SECONDS_WITH_FAILURES", 60)
    monkeypatch.setattr("sending.http.pool.CONNECT_SECONDS", 60)
