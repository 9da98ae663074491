"""What importing the frameworks does to the process: threads, NumPy, environment, errors.

Each test runs a fresh interpreter, since a framework can be loaded only once per process. What a
framework uses is judged by the CPU time of each thread, which other work on the machine disturbs
far less than wall time.
"""

import json
import os
import sys
from pathlib import Path

import processes
import pytest

pytestmark = pytest.mark.needs("mxnet")

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = ("OMP_", "GOMP_", "MKL_", "KMP_", "OPENBLAS_", "MXNET_", "TORCH_", "DNNL_")
REMOVED_FROM_NUMPY = ("bool", "int", "float", "complex", "object", "str", "long", "unicode")

IMPORT = {"mxnet": "from bertnli.backends.mxnet._framework import mx\n", "torch": "import torch\n"}

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


def run(code, variables=None):
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
def torch_alone():
    """The threads that PyTorch takes by itself: the cores, which may be fewer than the CPUs."""
    return int(run("import torch; result = torch.get_num_threads()"))


ORDERS = [("mxnet", "torch"), pytest.param(("torch", "mxnet"), marks=pytest.mark.long)]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_both_frameworks_use_all_cores(order, torch_alone):
    threads = run("".join(IMPORT[name] for name in order) + MEASURE + "result = both()")
    assert threads["torch"] >= torch_alone
    assert threads["torch again"] >= torch_alone
    assert threads["mxnet"] >= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_omp_num_threads_is_obeyed(order):
    code = "".join(IMPORT[name] for name in order) + MEASURE + "result = both()"
    assert run(code, {"OMP_NUM_THREADS": "1"}) == {"torch": 1, "mxnet": 1, "torch again": 1}


def test_mxnet_omp_max_threads_is_obeyed():
    code = IMPORT["mxnet"] + MEASURE + "result = mxnet_threads()"
    assert run(code, {"MXNET_OMP_MAX_THREADS": "1"}) == 1


@pytest.mark.long
def test_affinity_is_obeyed():
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
    code = one + IMPORT["mxnet"] + IMPORT["torch"] + MEASURE + "result = both()"
    assert run(code) == {"torch": 1, "mxnet": 1, "torch again": 1}


@pytest.mark.parametrize(
    ("variables", "alone"), [({}, True), ({"MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice"}, False)]
)
def test_mxnet_computes_in_the_thread_that_asks(variables, alone):
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


def test_threads_the_user_gave_torch_are_kept():
    code = "import torch; torch.set_num_threads(3)\n" + IMPORT["mxnet"]
    assert run(code + "result = torch.get_num_threads()") == 3


@pytest.mark.parametrize(
    "variables", [{}, {"MXNET_OMP_MAX_THREADS": "", "MXNET_ENGINE_TYPE": ""}], ids=str
)
def test_environment_and_numpy_are_unchanged(variables):
    # A child's view too: os.environ and the C environment could differ.
    code = (
        "import os, subprocess, sys, numpy, numpy.testing\n"
        "def look():\n"
        "    code = 'import os; print(sorted(os.environ.items()))'\n"
        "    child = subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        "    return dict(os.environ), child\n"
        "before, names = look(), dict(vars(numpy))\n"
        f"{IMPORT['mxnet']}"
        f"added = [name for name in {REMOVED_FROM_NUMPY} if name in vars(numpy)]\n"
        "changed = [k for k in names if vars(numpy).get(k) is not names[k]]\n"
        "result = [look() == before, added, changed]\n"
    )
    assert run(code, variables) == [True, [], []]


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


def test_mxnet_still_finds_the_aliases_it_uses_later():
    results = run(IMPORT["mxnet"] + USES_OF_THE_ALIASES)
    assert results == [
        [[0, 1, 2]],
        [[0, 1, 2]],
        [[0, 1, 2]],
        [1, 2, 3],
        "bool",
        6,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("keep", [True, False], ids=["shim kept", "shim removed"])
def test_mxnet_that_the_user_imported_before(keep):
    own = "import numpy; numpy.bool = bool\nimport mxnet\n" + ("" if keep else "del numpy.bool\n")
    code = own + IMPORT["mxnet"] + USES_OF_THE_ALIASES + "result += [mx is mxnet]"
    *results, kept, same = run(code)
    assert results == [[[0, 1, 2]], [[0, 1, 2]], [[0, 1, 2]], [1, 2, 3], "bool", 6, True, True]
    assert kept == keep
    assert same


def test_the_package_imports_no_framework():
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


def test_dir_shows_the_public_names():
    """No `Any`, `Path` or `annotations`, which a file imports for itself, and no submodules."""
    code = (
        "import importlib\n"
        f"modules = [importlib.import_module(name) for name in {PACKAGES}]\n"
        "before = [dir(module) for module in modules]\n"
        "import bertnli.evaluation.report, bertnli.parity.report, bertnli.cli.training\n"
        "after = [dir(module) for module in modules]\n"
        "public = [sorted(set(module.__all__)) for module in modules]\n"
        "wrong = [n for m in modules for n in dir(m) if type(getattr(m, n, m)) is type(m)]\n"
        "result = [before, after, public, wrong]\n"
    )
    before, after, public, wrong = run(code)
    assert before == after == public
    assert wrong == []


def error_of(preparation):
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


@pytest.mark.parametrize(
    ("preparation", "parts"),
    [
        ("sys.modules['mxnet'] = None", ['pip install "bertnli[mxnet]"', "Python 3.10", "numpy<2"]),
        ("sys.modules['distutils'] = None", ["setuptools", "distutils"]),
        ("numpy.__version__ = '2.1.0'", ["numpy<2", "numpy 2.1.0"]),
        (
            "import ctypes\n"
            "def refuse(*args, **kwargs):\n    raise OSError('libquadmath.so.0: no such file')\n"
            "ctypes.CDLL = refuse",
            ["libquadmath.so.0: no such file", "apt install"],
        ),
    ],
)
def test_what_is_missing_is_a_backend_error(preparation, parts):
    name, text = error_of(preparation)
    assert name == "BackendError" and all(part in text for part in parts)


def test_other_errors_of_mxnet_are_not_hidden():
    # As another release of mxnet, or a broken one, might fail.
    name, _ = error_of("del numpy.PZERO")
    assert name == "AttributeError"


def test_a_model_is_made_without_pytorch_s_compiler():
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
