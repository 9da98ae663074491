"""Servers that the tests share."""

import signal

import pytest
from serve_process import FAKE, Served


@pytest.fixture(scope="session")
def served():
    """A server of bert.mini on both backends."""
    with Served("--backend", "both", "--devices", "cpu") as server:
        yield server
        assert server.end(signal.SIGINT) == 130


@pytest.fixture(scope="session")
def fake():
    """A server of a model without a framework, with short limits."""
    limits = ("--read-timeout", "1", "--max-body", "20000", "--allow-host", "nli.example.org")
    with Served(*limits, program=FAKE) as server:
        yield server
        assert server.process.poll() is None
