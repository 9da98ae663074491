"""What the doctor reads of a machine, its advice, and both backends tried."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bertnli._util.machine import available_cores, cpu, cpu_limit, memory
from bertnli.cli import main
from bertnli.doctor import probe as probe_module
from bertnli.doctor.diagnosis import advise, diagnose
from bertnli.doctor.probe import probe

CPUINFO = """processor\t: 0
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu sse avx2 fma avx512f avx512_bf16 amx_bf16

processor\t: 1
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu
"""


def tree(root, files):
    """Write files by relative path; return the folder."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_processor(tmp_path):
    intel = cpu(tree(tmp_path / "intel", {"proc/cpuinfo": CPUINFO}))
    assert intel["name"] == "A Processor @ 2.00GHz"
    assert intel["instructions"] == ["AVX2", "FMA", "AVX512", "AVX512-BF16", "AMX-BF16"]
    text = "processor\t: 0\nFeatures\t: fp asimd bf16 sve\n"
    arm = cpu(tree(tmp_path / "arm", {"proc/cpuinfo": text}))
    assert arm["instructions"] == ["NEON", "BF16", "SVE"]
    assert cpu(tmp_path / "none")["instructions"] is None


CGROUP = "sys/fs/cgroup/"
#: Files of a control group, and the limits in cores and GiB. In version 2, "max" is no limit, and
#: the tightest limit of a group and its parents counts; in a container the path is the host's, and
#: the group is at the top. In version 1, -1 or nearly 2^63 is no limit.
LIMITS = {
    "none": ({}, None, None),
    "v2": (
        {
            "proc/self/cgroup": "0::/user/app\n",
            CGROUP + "user/app/cpu.max": "max 100000\n",
            CGROUP + "user/cpu.max": "150000 100000\n",
            CGROUP + "user/app/memory.max": "2147483648\n",
            CGROUP + "user/memory.max": "max\n",
        },
        1.5,
        2.0,
    ),
    "container": (
        {
            "proc/self/cgroup": "0::/kubepods/pod1/x\n",
            CGROUP + "cpu.max": "400000 100000\n",
            CGROUP + "memory.max": "1073741824\n",
        },
        4.0,
        1.0,
    ),
    "v1": (
        {
            "proc/self/cgroup": "4:memory:/app\n3:cpu,cpuacct:/app\n",
            CGROUP + "cpu/app/cpu.cfs_quota_us": "50000\n",
            CGROUP + "cpu/app/cpu.cfs_period_us": "100000\n",
            CGROUP + "cpu/cpu.cfs_quota_us": "-1\n",
            CGROUP + "cpu/cpu.cfs_period_us": "100000\n",
            CGROUP + "memory/app/memory.limit_in_bytes": "9223372036854771712\n",
        },
        0.5,
        None,
    ),
}


@pytest.mark.parametrize(("files", "cores", "size"), LIMITS.values(), ids=LIMITS)
def test_limits_of_control_groups(tmp_path, files, cores, size):
    meminfo = f"MemTotal:  {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {3 << 19} kB\n"
    root = tree(tmp_path, {"proc/meminfo": meminfo, **files})
    assert cpu_limit(root) == cores
    assert memory(root) == {"machine": 8.0, "available": 1.5, "limit": size}


BACKEND = {"works": True, "gpus": [], "probabilities": {"neutral": 1.0}}
MISSING = {"works": False, "error": "not installed: pip install a backend"}
BROKEN = {"works": False, "error": "no libgomp"}
MACHINE = {
    "executable": str(Path.home() / "venv" / "python"),
    "cores": {"machine": 8, "usable": 8, "limit": None},
    "variables": {},
    "nvidia_driver": None,
}
HEALTHY = {
    "bertnli": "1.0",
    "works": True,
    "machine": MACHINE,
    "packages": {"numpy": "1.26.4"},
    "backends": {"torch": BACKEND, "mxnet": MISSING},
    "differences": {"torch - referee": 1e-8},
    "extras": {"hf": {"tokenizers": None}},
    "downloads": {"folder": "/c", "writable": True},
}
NONE_WORKS = {"works": False, "backends": {"torch": MISSING, "mxnet": MISSING}}
LIMITED = {"cores": {"machine": 8, "usable": 8, "limit": 1.5}}


@pytest.mark.parametrize(
    ("changes", "machine", "kind", "text"),
    [
        (NONE_WORKS, {}, "error", "no backend works"),
        (
            {"backends": {"torch": BACKEND, "mxnet": BROKEN}},
            {},
            "error",
            "mxnet is installed and does not work: no libgomp",
        ),
        ({"differences": {"torch - referee": 1e-2}}, {}, "error", "differ by 1.0e-02"),
        ({"differences": {"torch - referee": float("nan")}}, {}, "error", "differ by nan"),
        ({}, {"nvidia_driver": "NVRM 550"}, "warning", "torch sees no GPU"),
        ({}, {"variables": {"OMP_NUM_THREADS": "16"}}, "warning", "more than the 8 cores"),
        ({}, {"variables": {"OMP_NUM_THREADS": "8"}, **LIMITED}, "warning", "the 1.5 cores"),
        ({"downloads": {"folder": "/c", "writable": False}}, {}, "warning", "set BERTNLI_CACHE"),
        ({}, {"variables": {"OMP_NUM_THREADS": "8"}}, None, None),
    ],
)
def test_advice(changes, machine, kind, text):
    advice = list(advise({**HEALTHY, "machine": {**MACHINE, **machine}, **changes}))
    assert [kind for kind, _ in advice] == ([kind] if kind else [])
    assert text is None or text in advice[0][1]


@pytest.mark.parametrize(("changes", "status"), [({}, 0), (NONE_WORKS, 1)])
def test_the_command(monkeypatch, capsys, changes, status):
    monkeypatch.setattr("bertnli.cli.backends.diagnose", lambda: {**HEALTHY, **changes})
    assert main(["doctor"]) == status
    text = capsys.readouterr().out
    assert "~/venv/python" in text and "tokenizers -" in text
    assert text.splitlines()[-1].startswith("error: no backend" if status else "nothing is wrong")
    assert main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["works"] is not bool(status)


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("1.26.4", 'pip install "bertnli[mxnet]"'),
        ("2.5.0", "pip install --no-deps mxnet==1.9.1 graphviz setuptools"),
    ],
)
def test_the_line_that_installs_mxnet_beside_each_numpy(monkeypatch, version, line):
    """pip refuses its wheel beside NumPy 2; nothing is wrong where it is not wanted."""
    monkeypatch.setattr("numpy.__version__", version)
    monkeypatch.setattr("bertnli.doctor.diagnosis.available_backends", lambda: ["torch"])
    monkeypatch.setattr("bertnli.doctor.diagnosis.probe", lambda name: BACKEND)
    monkeypatch.setattr("bertnli.doctor.diagnosis.expected", lambda: BACKEND["probabilities"])
    report = diagnose()
    assert report["backends"]["mxnet"]["error"] == f"not installed: {line}"
    assert not [item for item in advise(report) if "mxnet" in item[1]]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended with status -11"),
        ("import sys; sys.exit('bad library')", "ended with status 1, negative for a signal: bad"),
        ("import time; time.sleep(60)", "no answer within 1 seconds"),
    ],
)
def test_a_broken_framework_is_reported(monkeypatch, tmp_path, code, message):
    tree(tmp_path, {"bertnli/__init__.py": code})
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(probe_module, "TIMEOUT", 1 if "sleep" in code else 300)
    answer = probe("torch")
    assert not answer["works"] and message in answer["error"]


def test_an_error_of_the_library_is_reported(capsys):
    probe_module.print_probe("jax")
    answer = json.loads(capsys.readouterr().out.removeprefix(probe_module.MARK))
    assert not answer["works"] and "unknown backend 'jax'" in answer["error"]


@pytest.mark.needs("torch", "mxnet")
def test_doctor_on_this_machine(capsys, monkeypatch, tmp_path):
    """MXNet's own limit of threads is obeyed; the folder of downloads is below a file."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MXNET_OMP_MAX_THREADS", "1")
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "cache" / "below"))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["differences"].keys() == {"torch - mxnet", "torch - referee", "mxnet - referee"}
    assert 0 < max(report["differences"].values()) < 1e-5
    for name, threads in (("torch", available_cores()), ("mxnet", 1)):
        backend = report["backends"][name]
        assert backend["works"] and backend["libraries"]["oneDNN"] is True
        assert backend["threads"] == threads
        assert backend["version"] == import_module(name).__version__
    assert report["machine"]["cores"]["usable"] == available_cores()
    assert report["downloads"]["writable"] is False
    assert [item["kind"] for item in report["advice"]] == ["warning"]
    assert report["extras"]["plots"].keys() == {"matplotlib"}
    assert not {"torch", "mxnet", "dev", "docs"} & report["extras"].keys()
    assert all("bertnli" not in packages for packages in report["extras"].values())
    home = os.path.expanduser("~")
    assert home == "/" or f"{home}/" not in json.dumps(report)
