"""What importing the frameworks does to the process: threads, NumPy, environment, errors.

Each test runs a fresh interpreter, since a framework can be loaded only once per process. What a
framework uses is judged by the CPU time of each thread, which other work on the machine disturbs
far less than wall time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import processes
import pytest

pytestmark = pytest.mark.needs("mxnet")

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = ("OMP_", "GOMP_", "MKL_", "KMP_", "OPENBLAS_", "MXNET_", "TORCH_", "DNNL_")
REMOVED_FROM_NUMPY = ("bool", "int", "float", "complex", "object", "str", "long", "unicode")

IMPORT = {
    "mxnet": "from bertnli.backends.mxnet._framework import mx\n",
    "torch": "import torch\n",
}

MEASURE = """
import math, os, time

def cpu_times():
    times = {}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        times[thread] = int(fields[11]) + int(fields[12])  # user and system time, in ticks
    return times

def busy_threads(work):
    # Threads with at least 20 % of the busiest one's time, once that has half a second: clear of
    # the resolution of a tick (10 ms) and of what starting the threads costs.
    enough, give_up = os.sysconf("SC_CLK_TCK") // 2, time.monotonic() + 600
    before = cpu_times()
    while True:
        work()
        used = [now - before.get(thread, 0) for thread, now in cpu_times().items()]
        if max(used) >= enough:
            return sum(time >= 0.2 * max(used) for time in used)
        assert time.monotonic() < give_up, used

# Large enough to be worth splitting among all cores.
side = 1024 * min(8, max(2, math.ceil(len(os.sched_getaffinity(0)) ** 0.5)))

def torch_threads():
    x = torch.ones(side, side)
    return busy_threads(lambda: torch.mm(x, x))

def mxnet_threads():
    x = mx.np.ones((side, side))
    dense = lambda: mx.npx.fully_connected(x, x, None, num_hidden=side, no_bias=True)
    return busy_threads(lambda: dense().wait_to_read())

def both():
    return {"torch": torch_threads(), "mxnet": mxnet_threads(), "torch again": torch_threads()}
"""


def run(code: str, variables: dict[str, str] | None = None) -> Any:
    """Run code in a fresh interpreter, without thread settings; return what `result` is there."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(THREAD_VARIABLES)}
    path = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env.update(variables or {}, PYTHONPATH=path)
    code += "\nimport json; print('result', json.dumps(result))"
    done = processes.run([sys.executable, "-c", code], env=env)
    assert done.returncode == 0, done.stderr
    assert "engine" not in done.stderr
    return json.loads(done.stdout.rsplit("result ", 1)[1])


@pytest.fixture(scope="module")
def torch_alone() -> int:
    """The threads that PyTorch takes by itself: the cores, which may be fewer than the CPUs."""
    return int(run("import torch; result = torch.get_num_threads()"))


@pytest.mark.parametrize("order", [("mxnet", "torch"), ("torch", "mxnet")], ids="-".join)
def test_both_frameworks_use_all_cores(order: tuple[str, str], torch_alone: int) -> None:
    found = run("".join(IMPORT[name] for name in order) + MEASURE + "result = both()")
    assert found["torch"] >= torch_alone
    assert found["torch again"] >= torch_alone
    assert found["mxnet"] >= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("order", [("mxnet", "torch"), ("torch", "mxnet")], ids="-".join)
def test_omp_num_threads_is_obeyed(order: tuple[str, str]) -> None:
    code = "".join(IMPORT[name] for name in order) + MEASURE + "result = both()"
    assert run(code, {"OMP_NUM_THREADS": "1"}) == {"torch": 1, "mxnet": 1, "torch again": 1}


def test_mxnet_omp_max_threads_is_obeyed() -> None:
    code = IMPORT["mxnet"] + MEASURE + "result = mxnet_threads()"
    assert run(code, {"MXNET_OMP_MAX_THREADS": "1"}) == 1


def test_affinity_is_obeyed() -> None:
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
    code = one + IMPORT["mxnet"] + IMPORT["torch"] + MEASURE + "result = both()"
    assert run(code) == {"torch": 1, "mxnet": 1, "torch again": 1}


@pytest.mark.parametrize(
    ("variables", "alone"), [({}, True), ({"MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice"}, False)]
)
def test_mxnet_computes_in_the_thread_that_asks(variables: dict[str, str], alone: bool) -> None:
    """On a machine without a GPU, unless the user wants another engine."""
    code = (
        IMPORT["mxnet"] + "import mxnet, time\n"
        "gpus = mxnet.context.num_gpus()\n"
        "x = mx.nd.ones((2000, 2000))\n"
        "y = mx.nd.dot(x, x)\n"  # a tenth of a second of one core or more
        "start = time.thread_time()\n"
        "y = mx.nd.dot(x, x)\n"
        "y.wait_to_read()\n"
        "result = [gpus, time.thread_time() - start]\n"
    )
    gpus, seconds = run(code, {**variables, "OMP_NUM_THREADS": "1"})
    if not gpus:
        assert (seconds > 0.01) is alone


def test_threads_the_user_gave_torch_are_kept() -> None:
    code = "import torch; torch.set_num_threads(3)\n" + IMPORT["mxnet"]
    assert run(code + "result = torch.get_num_threads()") == 3


@pytest.mark.parametrize(
    "variables",
    [{}, {"MXNET_OMP_MAX_THREADS": "", "MXNET_ENGINE_TYPE": ""}, {"OMP_NUM_THREADS": "1"}],
    ids=str,
)
def test_environment_is_unchanged(variables: dict[str, str]) -> None:
    # A child's view too: os.environ and the C environment could differ.
    look = (
        "import os, subprocess, sys\n"
        "def look():\n"
        "    code = 'import os; print(sorted(os.environ.items()))'\n"
        "    child = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        "    return dict(os.environ), child\n"
        "before = look()\n"
    )
    assert run(look + IMPORT["mxnet"] + "result = look() == before", variables)


def test_numpy_is_unchanged() -> None:
    code = (
        "import numpy, numpy.testing, warnings\n"
        "before = dict(vars(numpy))\n"
        f"{IMPORT['mxnet']}"
        "import numpy as np\n"
        "after = vars(numpy)\n"
        f"result = {{n: n in after for n in {REMOVED_FROM_NUMPY}}}\n"
        "result['same'] = [k for k in before if after.get(k) is not before[k]]\n"
    )
    assert run(code) == {**dict.fromkeys(REMOVED_FROM_NUMPY, False), "same": []}


USES_OF_THE_ALIASES = """
import numpy
x = mx.np.arange(6).reshape(2, 3)
x[x > 3] = 0
result = [
    x[mx.np.array([True, False], dtype="bool")].tolist(),
    x[numpy.array([True, False])].tolist(),
    x[[True, False]].tolist(),
    x[True].shape,
    str(mx.np.full((2,), True).dtype),
    numpy.sum(x).item(),
    isinstance(mx.np.array([True], dtype=mx.np.bool).asnumpy()[0], numpy.bool_),
    mx.test_utils.almost_equal(x.asnumpy(), x.asnumpy()),
    "bool" in vars(numpy),
]
"""


def test_mxnet_still_finds_the_aliases_it_uses_later() -> None:
    found = run(IMPORT["mxnet"] + USES_OF_THE_ALIASES)
    assert found == [[[0, 1, 2]], [[0, 1, 2]], [[0, 1, 2]], [1, 2, 3], "bool", 6, True, True, False]


@pytest.mark.parametrize("keep", [True, False], ids=["shim kept", "shim removed"])
def test_mxnet_that_the_user_imported_before(keep: bool) -> None:
    own = "import numpy; numpy.bool = bool\nimport mxnet\n" + ("" if keep else "del numpy.bool\n")
    code = own + IMPORT["mxnet"] + USES_OF_THE_ALIASES + "result += [mx is mxnet]"
    *found, kept, same = run(code)
    assert found == [[[0, 1, 2]], [[0, 1, 2]], [[0, 1, 2]], [1, 2, 3], "bool", 6, True, True]
    assert kept == keep
    assert same


def test_the_package_imports_no_framework() -> None:
    code = (
        "import sys, bertnli, bertnli.errors, bertnli.backends\n"
        "result = sorted({'torch', 'mxnet'} & set(sys.modules))"
    )
    assert run(code) == []


PACKAGES = (
    "bertnli",
    "bertnli.backends",
    "bertnli.backends.mxnet",
    "bertnli.backends.torch",
    "bertnli.cli",
    "bertnli.doctor",
    "bertnli.errors",
    "bertnli.evaluation",
    "bertnli.parity",
    "bertnli.training.observers",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_dir_shows_the_public_names(name: str) -> None:
    """No `Any`, `Path` or `annotations`, which a file imports for itself, and no submodules."""
    code = (
        "import importlib\n"
        f"module = importlib.import_module({name!r})\n"
        "before = dir(module)\n"
        "import bertnli.evaluation.report, bertnli.parity.report, bertnli.cli.train\n"
        "result = [before, dir(module), sorted(module.__all__), [n for n in dir(module) if not "
        "hasattr(module, n) or type(getattr(module, n)) is type(importlib)]]"
    )
    before, after, public, wrong = run(code)
    assert before == after == public
    assert len(set(public)) == len(public)
    assert wrong == []


def error_of(preparation: str) -> tuple[str, str]:
    """The class and the text of what importing the backend raises after the preparation."""
    code = (
        f"import os, sys, numpy, numpy.testing\n{preparation}\n"
        "import bertnli.backends\n"
        # Parts of NumPy itself may be imported by what MXNet imports.
        "def seen():\n"
        "    names = {n for n, v in vars(numpy).items() if type(v) is not type(sys)}\n"
        "    return names, dict(os.environ)\n"
        "before = seen()\n"
        "try:\n    import bertnli.backends.mxnet._framework\n"
        "except Exception as error:\n"
        "    unchanged = seen() == before\n"
        "    result = [type(error).__name__, str(error), unchanged]"
    )
    name, text, unchanged = run(code)
    assert unchanged
    return name, text


def test_missing_mxnet_is_a_backend_error() -> None:
    name, text = error_of("sys.modules['mxnet'] = None")
    assert name == "BackendError"
    for part in ('pip install "bertnli[mxnet]"', "Python 3.10", "3.12", "numpy<2", "setuptools"):
        assert part in text


def test_missing_distutils_is_a_backend_error() -> None:
    name, text = error_of("sys.modules['distutils'] = None")
    assert name == "BackendError"
    assert "setuptools" in text and "distutils" in text


def test_new_numpy_is_a_backend_error() -> None:
    name, text = error_of("numpy.__version__ = '2.1.0'")
    assert name == "BackendError"
    assert "numpy<2" in text and "numpy 2.1.0" in text and 'pip install "bertnli[mxnet]"' in text


def test_library_that_cannot_be_loaded_is_a_backend_error() -> None:
    name, text = error_of(
        "import ctypes\n"
        "def refuse(*args, **kwargs):\n    raise OSError('libquadmath.so.0: no such file')\n"
        "ctypes.CDLL = refuse"
    )
    assert name == "BackendError"
    assert "libquadmath.so.0: no such file" in text and "apt install" in text


def test_other_errors_of_mxnet_are_not_hidden() -> None:
    # As another release of mxnet, or a broken one, might fail.
    name, _ = error_of("del numpy.PZERO")
    assert name == "AttributeError"


def test_a_model_is_made_without_pytorch_s_compiler() -> None:
    """Its import takes a second, a third of a first prediction."""
    code = (
        "import sys, bertnli\n"
        "nli = bertnli.get_backend('torch')\n"
        "nli.BERTClassifier(nli.BERTModel(20, 8, 8, 2, 2, 0.1))\n"
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)\n"
    )
    out = processes.run([sys.executable, "-c", code])
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == ["True", "False"]
