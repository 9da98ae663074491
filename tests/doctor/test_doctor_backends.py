"""The doctor on a machine where both backends work."""

from __future__ import annotations

import json
import os

import pytest

from bertnli._util.machine import available_cores
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.doctor.probe import probe


def test_a_backend_tells_of_itself(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = probe(backend.name)
    assert found["works"], found
    assert found["version"] == backend.backend_info()["version"]
    assert found["threads"] == available_cores()
    assert found["libraries"].keys() == {"oneDNN", "MKL", "CUDA"}
    assert found["libraries"]["oneDNN"] is True
    assert sum(found["test"]["probabilities"].values()) == pytest.approx(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert probe(backend.name)["threads"] == 1


def test_mxnet_s_own_limit_of_threads(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MXNET_OMP_MAX_THREADS", "1")
    expected = {"torch": available_cores(), "mxnet": 1}[backend.name]
    assert probe(backend.name)["threads"] == expected


@pytest.mark.needs("torch", "mxnet")
def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["works"] and all(one["works"] for one in found["backends"].values())
    pairs = {"torch - mxnet", "torch - referee", "mxnet - referee"}
    assert found["differences"].keys() == pairs
    assert max(found["differences"].values()) < 1e-5
    assert not [one for one in found["advice"] if one["kind"] == "error"]
    assert os.path.expanduser("~/") not in json.dumps(found) or os.path.expanduser("~") == "/"
