"""One server for all tests that leave it alive."""

import pytest
from serve_process import FAKE, Served


@pytest.fixture(scope="session")
def served():
    """bert.mini on both backends."""
    with Served("--backend", "both", "--devices", "cpu") as server:
        yield server
        assert server.process.poll() is None


@pytest.fixture(scope="session")
def fake():
    """A model without a framework, with short limits."""
    limits = ("--read-timeout", "1", "--max-body", "20000", "--allow-host", "nli.example.org")
    with Served(*limits, program=FAKE) as server:
        yield server
        assert server.process.poll() is None
