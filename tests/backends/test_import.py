"""Effects of importing the frameworks on the process: threads, NumPy, environment, errors.

A framework can be imported only once in a process. `facts` therefore runs a few scripts in fresh
interpreters, each of which collects several facts, and the tests read them. The number of threads
that a framework uses is measured by the CPU time of each thread, which other work on the machine
disturbs less than wall time.
"""

import functools
import json
import os
import sys
from pathlib import Path

import processes
import pytest

from bertnli.backends import how_to_install

pytestmark = pytest.mark.needs("mxnet")

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = ("OMP_", "GOMP_", "MKL_", "KMP_", "OPENBLAS_", "MXNET_", "TORCH_", "DNNL_")
ONE_EACH = {"torch": 1, "mxnet": 1, "torch again": 1}
PUBLIC = (
    *("bertnli", "bertnli.backends", "bertnli.backends.mxnet", "bertnli.backends.torch"),
    *("bertnli.cli", "bertnli.doctor", "bertnli.errors", "bertnli.evaluation", "bertnli.parity"),
    "bertnli.training.observers",
)

PRELUDE = f"""
import json, math, os, subprocess, sys, time
facts = {{}}

def cpu_times():
    times = {{}}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{{thread}}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        times[thread] = int(fields[11]) + int(fields[12])  # user and system time, in ticks
    return times

def busy_threads(work):
    # Threads with at least 20 % of the busiest one's time, when that has half a second: far above
    # the resolution of a tick (10 ms) and the cost of starting the threads.
    enough, give_up = os.sysconf("SC_CLK_TCK") // 2, time.monotonic() + 600
    before = cpu_times()
    while True:
        work()
        used = [now - before.get(thread, 0) for thread, now in cpu_times().items()]
        if max(used) >= enough:
            return sum(time >= 0.2 * max(used) for time in used)
        assert time.monotonic() < give_up, used

# Large enough to be split among all cores.
side = 1024 * min(8, max(2, math.ceil(len(os.sched_getaffinity(0)) ** 0.5)))

def torch_threads():
    import torch
    x = torch.ones(side, side)
    return busy_threads(lambda: torch.mm(x, x))

def mxnet_threads():
    x = mx.np.ones((side, side))
    dense = lambda: mx.npx.fully_connected(x, x, None, num_hidden=side, no_bias=True)
    return busy_threads(lambda: dense().wait_to_read())

def both():
    return {{"torch": torch_threads(), "mxnet": mxnet_threads(), "torch again": torch_threads()}}

def import_mxnet():
    # Compare NumPy and the environment, also that of a child, before and after.
    import numpy, numpy.testing

    def environment():
        code = "import os; print(sorted(os.environ.items()))"
        child = subprocess.check_output([sys.executable, "-c", code], text=True)
        return dict(os.environ), child

    before, names = environment(), dict(vars(numpy))
    from bertnli.backends.mxnet._framework import mx
    changed = [name for name in names if vars(numpy).get(name) is not names[name]]
    added = [n for n, v in vars(numpy).items() if n not in names and type(v) is not type(sys)]
    facts["unchanged"] = [environment() == before, changed, added]
    return mx

def uses_of_aliases():
    import numpy
    x = mx.np.arange(6).reshape(2, 3)
    x[x > 3] = 0
    return [
        x[mx.np.array([True, False], dtype="bool")].tolist(),
        x[numpy.array([True, False])].tolist(),
        x[[True, False]].tolist(),
        x[True].shape,
        str(mx.np.full((2,), True).dtype),
        numpy.sum(x).item(),
        isinstance(mx.np.array([True], dtype=mx.np.bool).asnumpy()[0], numpy.bool_),
        mx.test_utils.almost_equal(x.asnumpy(), x.asnumpy()),
        bool(mx.np.alltrue(x == x)),
        float(mx.np.trapz(x[0])),
        len(mx.np.split(x, list(numpy.arange(1, 2)))),
        mx.np.pad(x, ((1, 0), (0, 0)), mode="constant").shape,
        "int" in vars(numpy),
    ]

def users_patch():
    # What a user's program gives NumPy, to import mxnet.
    import numpy
    names = {{"bool": bool, "int": int}}
    if numpy.__version__ >= "2":
        numbers = ("PZERO", "NZERO", "PINF", "NINF", "NAN", "NaN", "Inf")
        unused = ("sometrue", "product", "round_", "in1d", "msort")
        financial = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")
        names |= {{"alltrue": numpy.all, "trapz": numpy.trapezoid, **dict.fromkeys(numbers, 0.0)}}
        names |= {{name: lambda *args, **kwargs: None for name in unused + financial}}
    names = {{name: value for name, value in names.items() if name not in vars(numpy)}}
    vars(numpy).update(names)
    return names

def computes_in_this_thread():
    x = mx.nd.ones((2000, 2000))
    mx.nd.dot(x, x).wait_to_read()
    start = time.thread_time()
    for _ in range(3):  # a third of a second of one core or more
        mx.nd.dot(x, x).wait_to_read()
    return time.thread_time() - start > 0.01

def public_names():
    import importlib
    modules = [importlib.import_module(name) for name in {PUBLIC}]
    before = [dir(module) for module in modules]
    import bertnli.evaluation.report, bertnli.parity.report, bertnli.cli.training
    public = [sorted(set(module.__all__)) for module in modules]
    submodules = [n for m in modules for n in dir(m) if type(getattr(m, n, m)) is type(m)]
    return [before, [dir(module) for module in modules], public, submodules]
"""
#: Scripts by name, and their environment variables.
SCRIPTS = {
    "mxnet first": """
        import bertnli, bertnli.errors, bertnli.backends
        facts["frameworks"] = sorted({"torch", "mxnet"} & set(sys.modules))
        mx = import_mxnet()
        facts["aliases"] = uses_of_aliases()
        facts["in this thread"] = computes_in_this_thread()
        facts["threads"] = both()
        facts["public"] = public_names()
    """,
    "torch first": """
        import torch
        torch.set_num_threads(3)
        mx = import_mxnet()
        facts["torch's threads"] = torch.get_num_threads()
    """,
    "one thread": """
        mx = import_mxnet()
        facts["threads"] = both()
        facts["in this thread"] = computes_in_this_thread()
    """,
    "one core": """
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import torch
        mx = import_mxnet()
        facts["threads"] = both()
    """,
    "user's mxnet, patch kept": """
        users_patch()
        import mxnet
        mx = import_mxnet()
        facts["aliases"] = uses_of_aliases()
        facts["same"] = mx is mxnet
        facts["threads"] = mxnet_threads()
    """,
    "user's mxnet, patch removed": """
        patched = users_patch()
        import mxnet, numpy
        for name in patched:
            delattr(numpy, name)
        mx = import_mxnet()
        facts["aliases"] = uses_of_aliases()
        facts["same"] = mx is mxnet
    """,
    "torch alone": """
        import bertnli
        nli = bertnli.get_backend("torch")
        nli.BERTClassifier(nli.BERTModel(20, 8, 8, 2, 2, 0.1))
        facts["torch"] = ["torch" in sys.modules, "torch._dynamo" in sys.modules]
        facts["threads"] = sys.modules["torch"].get_num_threads()
    """,
}
VARIABLES = {
    "torch first": {"MXNET_OMP_MAX_THREADS": "", "MXNET_ENGINE_TYPE": ""},
    "one thread": {"OMP_NUM_THREADS": "1", "MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice"},
    "user's mxnet, patch kept": {"MXNET_OMP_MAX_THREADS": "1"},
}


def run(code, variables=None):
    """Run code in a fresh interpreter, without thread settings; return its `facts`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(THREAD_VARIABLES)}
    path = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env.update(variables or {}, PYTHONPATH=path)
    code = f"{PRELUDE}\n{code}\nprint('facts', json.dumps(facts))"
    done = processes.run([sys.executable, "-c", code], env=env)
    assert done.returncode == 0, done.stderr
    assert "engine" not in done.stderr
    return json.loads(done.stdout.rsplit("facts ", 1)[1])


@functools.cache
def facts(name):
    return run(SCRIPTS[name].replace("\n        ", "\n"), VARIABLES.get(name))


def test_both_frameworks_use_all_cores():
    threads = facts("mxnet first")["threads"]
    assert min(threads["torch"], threads["torch again"]) >= facts("torch alone")["threads"]
    assert threads["mxnet"] >= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("name", ["one thread", pytest.param("one core", marks=pytest.mark.long)])
def test_omp_num_threads_and_affinity_are_obeyed(name):
    assert facts(name)["threads"] == ONE_EACH


def test_mxnet_omp_max_threads_is_obeyed():
    assert facts("user's mxnet, patch kept")["threads"] == 1


def test_threads_that_the_user_gave_torch_are_kept():
    assert facts("torch first")["torch's threads"] == 3


def test_mxnet_computes_in_the_calling_thread_unless_the_user_wants_another_engine():
    if not Path("/dev/nvidia0").exists():  # the engine is only changed on a machine without a GPU
        assert facts("mxnet first")["in this thread"]
        assert not facts("one thread")["in this thread"]


@pytest.mark.parametrize("name", ["mxnet first", "torch first", "one thread"])
def test_environment_and_numpy_are_unchanged(name):
    assert facts(name)["unchanged"] == [True, [], []]


@pytest.mark.parametrize(
    ("name", "has_int"),
    [
        ("mxnet first", False),
        ("user's mxnet, patch kept", True),
        ("user's mxnet, patch removed", False),
    ],
)
def test_mxnet_finds_the_removed_names_of_numpy_that_it_uses(name, has_int):
    row = [[0, 1, 2]]
    functions = [6, True, True, True, 2, 2, [3, 3]]
    assert facts(name)["aliases"] == [row, row, row, [1, 2, 3], "bool", *functions, has_int]
    assert facts(name).get("same", True)


def test_the_package_imports_no_framework():
    assert facts("mxnet first")["frameworks"] == []


def test_dir_shows_the_public_names():
    """It shows neither what a file imports nor submodules."""
    before, after, public, submodules = facts("mxnet first")["public"]
    assert before == after == public and submodules == []


def test_a_model_is_made_without_importing_torch_s_compiler():
    """Its import takes a second, a third of a first prediction."""
    assert facts("torch alone")["torch"] == [True, False]


@functools.cache
def errors():
    """Return the errors of importing the backend after each preparation, from forked processes."""
    return run(f"""
import numpy, numpy.testing, bertnli.backends
def seen():
    # Submodules of NumPy may be imported by those of MXNet.
    names = {{n for n, v in vars(numpy).items() if type(v) is not type(sys)}}
    return names, dict(os.environ)
for preparation in {[*PREPARATIONS]}:
    reader, writer = os.pipe()
    if os.fork() == 0:
        exec(preparation)
        before, answer = seen(), None
        try:
            import bertnli.backends.mxnet._framework
        except Exception as error:
            answer = [type(error).__name__, str(error), seen() == before]
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        facts[preparation] = json.load(file)
    os.wait()
""")


REFUSE = """
import ctypes
def refuse(*args, **kwargs): raise OSError('libquadmath.so.0: no such file')
ctypes.CDLL = refuse
"""
#: A folder with another version, which is not imported.
OTHER = """
import pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp(), "mxnet")
folder.mkdir()
(folder / "__init__.py").write_text("raise SystemError")
(folder / "libinfo.py").write_text('__version__ = "1.8.0"')
sys.path.insert(0, str(folder.parent))
"""
#: What prevents the import of MXNet, and parts of the error.
PREPARATIONS = {
    "sys.modules['mxnet'] = None": [how_to_install("mxnet"), "MXNet 1.9.1"],
    "sys.modules['distutils'] = None": ["setuptools", "distutils"],
    OTHER: ["MXNet 1.8.0", "1.9 and 2.0"],
    REFUSE: ["libquadmath.so.0: no such file", "apt install"],
    "del numpy.float16": None,  # as another release of mxnet, or a broken one, might fail
}


@pytest.mark.parametrize(("preparation", "parts"), PREPARATIONS.items())
def test_an_error_says_what_is_missing(preparation, parts):
    name, text, unchanged = errors()[preparation]
    assert unchanged
    assert name == ("AttributeError" if parts is None else "BackendError")
    assert all(part in text for part in parts or [])
