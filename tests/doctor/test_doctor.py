"""What the doctor reads of a machine, and what it says about it; no framework is tried here."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertnli.cli import main
from bertnli.doctor import examination as examining
from bertnli.doctor import probe as probing
from bertnli.doctor.advice import advise
from bertnli.doctor.examination import Examination, extras
from bertnli.doctor.machine import cpu, cpu_limit, describe_machine, memory
from bertnli.doctor.probe import expected, probe

CPUINFO = """processor\t: 0
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu sse avx2 fma avx512f avx512_bf16 amx_bf16

processor\t: 1
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 sve\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_processor(tmp_path: Path) -> None:
    found = cpu(tree(tmp_path / "intel", {"proc/cpuinfo": CPUINFO}))
    assert found["name"] == "A Processor @ 2.00GHz"
    assert found["instructions"] == ["AVX2", "FMA", "AVX512", "AVX512-BF16", "AMX-BF16"]
    assert cpu(tree(tmp_path / "arm", {"proc/cpuinfo": ARM}))["instructions"] == [
        "NEON",
        "BF16",
        "SVE",
    ]
    assert cpu(tmp_path / "none")["instructions"] is None


CGROUP2, CGROUP1 = "0::/user/app\n", "4:memory:/app\n3:cpu,cpuacct:/app\n"


@pytest.mark.parametrize(
    ("files", "cores", "size"),
    [
        ({}, None, None),
        # Version 2: the tightest of a group and those above it; "max" is no limit.
        (
            {
                "proc/self/cgroup": CGROUP2,
                "sys/fs/cgroup/user/app/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/user/app/memory.max": "2147483648\n",
                "sys/fs/cgroup/user/memory.max": "max\n",
            },
            1.5,
            1 << 31,
        ),
        # In a container: the path is the host's, the group is at the top.
        (
            {
                "proc/self/cgroup": "0::/kubepods/pod1/x\n",
                "sys/fs/cgroup/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/memory.max": "1073741824\n",
            },
            4.0,
            1 << 30,
        ),
        # Version 1; what has no limit says -1, or nearly 2^63.
        (
            {
                "proc/self/cgroup": CGROUP1,
                "sys/fs/cgroup/cpu/app/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/app/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/app/memory.limit_in_bytes": "9223372036854771712\n",
            },
            0.5,
            None,
        ),
    ],
    ids=["none", "v2", "container", "v1"],
)
def test_limits_of_control_groups(
    tmp_path: Path, files: dict[str, str], cores: float | None, size: int | None
) -> None:
    root = tree(tmp_path, {"proc/meminfo": "MemTotal:  1000 kB\nMemAvailable: 10 kB\n", **files})
    assert cpu_limit(root) == cores
    assert memory(root) == {"machine": 1_024_000, "available": 10_240, "limit": size}


def test_this_machine() -> None:
    found = describe_machine()
    assert found["cores"]["machine"] >= found["cores"]["usable"] >= 1
    assert found["cpu"]["name"]
    json.dumps(found)


GIGABYTE = 1 << 30
BACKEND: dict[str, Any] = {
    "works": True,
    "version": "1.0",
    "import_seconds": 1.0,
    "devices": ["cpu"],
    "gpus": [],
    "threads": 8,
    "code for": "AVX2",
    "libraries": {"oneDNN": True, "MKL": False, "CUDA": "12.1"},
    "precision": {"auto": "bf16", "reason": "cpu has bf16 instructions"},
    "test": {"label": "neutral", "probabilities": {"neutral": 1.0}, "seconds": 0.1},
}
MISSING = {"works": False, "installed": False, "error": "not installed: pip install it"}
MACHINE: dict[str, Any] = {
    "system": "Linux 6",
    "libc": "glibc 2.36",
    "python": "CPython 3.11.7",
    "executable": "/usr/bin/python3",
    "cpu": {"name": "A Processor", "instructions": ["AVX2"]},
    "cores": {"machine": 8, "usable": 8, "limit": None},
    "memory": {"machine": 32 * GIGABYTE, "available": 16 * GIGABYTE, "limit": None},
    "variables": {},
    "nvidia_driver": None,
}
HEALTHY = Examination(
    bertnli="1.0",
    machine=MACHINE,
    packages={"numpy": "1.26.4"},
    backends={"torch": BACKEND, "mxnet": MISSING},
    differences={"torch - referee": 1e-8},
    extras={"plots": {"matplotlib": "3.8"}, "hf": {"tokenizers": None}},
    cache={"folder": "/c", "moved_by": None, "exists": True, "bytes": 3 << 20, "writable": True},
)
BOTH = {"torch": BACKEND, "mxnet": BACKEND}


def machine(**changed: Any) -> dict[str, Any]:
    return {**MACHINE, **changed}


def cores(limit: float | None = None, usable: int = 8) -> dict[str, Any]:
    return {"machine": 8, "usable": usable, "limit": limit}


def test_a_healthy_machine_gets_no_advice() -> None:
    assert list(advise(HEALTHY)) == []


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"backends": {"torch": MISSING, "mxnet": MISSING}}, "error", "no backend works"),
        (
            {"backends": {"torch": BACKEND, "mxnet": {"works": False, "error": "no libgomp"}}},
            "error",
            "mxnet is installed and does not work: no libgomp",
        ),
        ({"packages": {"numpy": "2.1.0"}, "backends": BOTH}, "error", 'pip install "numpy<2"'),
        ({"differences": {"torch - referee": 1e-2}}, "error", "1.0e-02 apart"),
        ({"differences": {"torch - referee": float("nan")}}, "error", "nan apart"),
        ({"machine": machine(nvidia_driver="NVRM 550")}, "warning", "torch sees no GPU"),
        ({"machine": machine(cores=cores(1.5))}, "warning", "set OMP_NUM_THREADS=2"),
        (
            {"machine": machine(variables={"OMP_NUM_THREADS": "16"})},
            "warning",
            "OMP_NUM_THREADS=16 is more than the 8 cores",
        ),
        (
            {
                "machine": machine(variables={"OMP_NUM_THREADS": "2"}),
                "backends": {"torch": {**BACKEND, "threads": 2}, "mxnet": MISSING},
            },
            "note",
            "torch computes with 2 of 8 cores, for OMP_NUM_THREADS=2",
        ),
        (
            {"backends": {"torch": MISSING, "mxnet": {**BACKEND, "threads": 4}}},
            "note",
            "mxnet computes with 4 of 8 cores; MXNet takes half of them",
        ),
        ({"backends": BOTH}, "note", "give each its share, OMP_NUM_THREADS=4 for two"),
        (
            {"machine": machine(cpu={"name": "old", "instructions": []})},
            "warning",
            "has no AVX2",
        ),
        (
            {
                "backends": {
                    "torch": {
                        **BACKEND,
                        "precision": {"auto": "fp32", "reason": "cpu has no bf16 instructions"},
                    },
                    "mxnet": MISSING,
                }
            },
            "note",
            "cpu has no bf16 instructions: --precision auto computes in fp32",
        ),
        (
            {"machine": machine(memory={"machine": 1, "available": None, "limit": GIGABYTE})},
            "warning",
            "1.0 GiB of memory are available",
        ),
        ({"cache": {**HEALTHY.cache, "writable": False}}, "warning", "set BERTNLI_CACHE"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], kind: str, text: str) -> None:
    found = list(advise(replace(HEALTHY, **changes)))
    assert any(one.kind == kind and text in one.text for one in found), found


def test_numpy_2_is_no_matter_without_mxnet() -> None:
    assert list(advise(replace(HEALTHY, packages={"numpy": "2.1.0"}))) == []


def test_errors_come_first() -> None:
    changes = {"differences": {"torch - mxnet": 1.0}, "backends": BOTH}
    broken = replace(HEALTHY, cache={**HEALTHY.cache, "writable": False}, **changes)
    assert [one.kind for one in advise(broken)] == ["error", "warning", "note"]


@pytest.mark.parametrize(("works", "status"), [(True, 0), (False, 1)])
def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], works: bool, status: int
) -> None:
    backends = HEALTHY.backends if works else {"torch": MISSING, "mxnet": MISSING}
    executable = str(Path.home() / "venv" / "python")
    found = replace(HEALTHY, backends=backends, machine=machine(executable=executable))
    monkeypatch.setattr("bertnli.cli.doctor.examine", lambda: found)
    assert main(["doctor"]) == status
    said = capsys.readouterr().out
    assert "CPython 3.11.7, ~/venv/python" in said
    assert 'tokenizers missing: pip install "bertnli[hf]"' in said
    assert ("nothing is wrong" in said) == works
    assert ("error: no backend works" in said) != works
    assert main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["works"] is works


def test_a_process_that_crashes_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, code, said in (
        ("kill", "import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("exit", "import sys; sys.exit('bad library')", "ended with status 1: bad library"),
    ):
        (tmp_path / name / "bertnli" / "doctor").mkdir(parents=True)
        for place in ("bertnli", "bertnli/doctor"):
            (tmp_path / name / place / "__init__.py").write_text("")
        (tmp_path / name / "bertnli" / "doctor" / "probe.py").write_text(code)
        monkeypatch.setattr(sys, "path", [str(tmp_path / name), *sys.path])
        found = probe("torch")
        assert not found["works"] and said in found["error"]


def test_a_process_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bertnli").mkdir()
    (tmp_path / "bertnli" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(probing, "TIMEOUT", 0.5)
    assert "no answer within 0.5 seconds" in probe("torch")["error"]


def test_an_unknown_backend_is_an_error_in_words() -> None:
    found = probe("jax")
    assert not found["works"] and "unknown backend 'jax'" in found["error"]


def test_the_referee_answers_without_a_framework() -> None:
    found = expected()
    assert set(found) == {"entailment", "contradiction", "neutral"}
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda name: found[name]) == "contradiction"


def test_extras_are_those_of_the_package() -> None:
    found = extras()
    assert found["plots"].keys() == {"matplotlib"}
    assert not {"torch", "mxnet", "dev", "docs"} & found.keys()
    assert all("bertnli" not in packages for packages in found.values())


def test_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BERTNLI_CACHE", str(folder))
    found = examining._cache()
    assert found == {
        "folder": str(folder),
        "moved_by": "BERTNLI_CACHE",
        "exists": False,
        "bytes": 0,
        "writable": True,
    }
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(bytes(1000))
    assert examining._cache()["bytes"] == 1000
    assert os.listdir(folder) == ["deep"]  # nothing is left of the trial
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "file" / "below"))
    assert not examining._cache()["writable"]


def test_differences_are_the_largest_of_each_two() -> None:
    answer = {"entailment": 0.2, "contradiction": 0.5, "neutral": 0.3}
    found = examining._differences({"torch": {"test": {"probabilities": answer}}, "mxnet": {}})
    assert found.keys() == {"torch - referee"}
    truth = expected()
    apart = np.abs([answer[name] - truth[name] for name in answer]).max()
    assert found["torch - referee"] == pytest.approx(apart)
