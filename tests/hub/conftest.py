"""A server, and short waits, for the tests of downloads."""

import pytest
from fault_server import FaultServer

from bertnli.hub import catalogue, fetch


@pytest.fixture
def server():
    served = FaultServer()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """Retry quickly, use a small cache of the test, and put the catalogue back."""
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)
    monkeypatch.setattr(fetch, "TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(fetch, "MAX_BYTES", 1 << 22)
    quick = {"backoff_factor": 0, "backoff_jitter": 0, "retry_after_max": 0}
    monkeypatch.setattr(fetch, "RETRY", fetch.RETRY.new(**quick))
    monkeypatch.setenv(catalogue.CACHE_VARIABLE, str(tmp_path / "cache"))
    names = {name: dict(files) for name, files in catalogue.DATA_HUB.items()}
    monkeypatch.setattr(catalogue, "DATA_HUB", names)
