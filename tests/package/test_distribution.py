"""The version, the dependencies, and the built distributions."""

import os
import re
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import processes
import pytest
from floors import floors, requirements
from packaging.version import Version

from bertnli.version import __version__

ROOT = Path(__file__).resolve().parents[2]
#: Files of a wheel that are not Python.
DATA = (
    "bertnli/py.typed",
    "bertnli/data/sample/train.tsv",
    "bertnli/models/bert.mini/classifier/model.safetensors",
    "bertnli/models/bert.mini/pretrained/config.json",
)
#: Files of the source distribution that tests and documentation need.
SOURCE = (
    "tests/conftest.py",
    "tests/fixtures/torch/golden.npz",
    "tests/fixtures/zips/bert.tiny.zip",
    "tests/training/workers_worker.py",
    "docs/architecture.md",
    "docs/scaling.png",
    "benchmarks/README.md",
    "constraints.txt",
    "CHANGELOG.md",
    "Makefile",
    "noxfile.py",
    "Dockerfile",
    ".dockerignore",
)


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_defined_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__)
    assert 'version = { attr = "bertnli.version.__version__" }' in text("pyproject.toml")
    files = [
        path
        for path in (ROOT / "bertnli").rglob("*.py")
        if re.search(r"^__version__\s*=", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert files == [ROOT / "bertnli" / "version.py"]


#: Packages with vulnerabilities that bertnli would expose, and the first versions without.
VULNERABLE = {
    "requests": "2.32.4",
    "filelock": "3.20.3",
    "h11": "0.16",
    "pyarrow": "14.0.1",
    "torch": "2.6",
    "urllib3": "2.7",
    "starlette": "1.3.1",
}


def test_vulnerable_versions_are_not_accepted():
    oldest = floors()
    for name, version in VULNERABLE.items():
        assert Version(oldest[name]) >= Version(version), name


def test_tested_versions_are_accepted():
    pinned = dict(re.findall(r"^([\w-]+)==(.+)$", text("constraints.txt"), re.MULTILINE))
    assert {"torch", "mxnet", "numpy", "pyarrow"} <= {*pinned}
    for need in requirements():
        if need.name in pinned:
            assert pinned[need.name] in need.specifier, need


def test_the_page_on_compatibility_has_the_oldest_versions():
    page = text("docs/compatibility.md")
    section = page.partition("## Oldest versions")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", section, re.MULTILINE))
    assert rows == floors()
    for name in ("PyTorch", "NumPy"):
        (version,) = re.findall(rf"^\| {name} \| ([\d.]+) and later", page, re.MULTILINE)
        assert version == floors()[{"PyTorch": "torch", "NumPy": "numpy"}[name]]


def test_the_image_is_pinned_and_has_the_versions_that_are_tested():
    bases = re.findall(r"^FROM (\S+)", text("Dockerfile"), re.MULTILINE)
    assert {*bases} == {"${BASE}"}
    assert re.search(r"^ARG BASE=python:3\.11\S*@sha256:[0-9a-f]{64}$", text("Dockerfile"), re.M)
    installs = re.findall(r"pip install (?:[^&]|\\\n)+", text("Dockerfile"))
    assert len(installs) == 2
    assert all("--constraint /wheels/constraints.txt" in install for install in installs)


def test_the_image_copies_only_files_that_dockerignore_allows():
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \./\S*$", text("Dockerfile"), re.MULTILINE)
    assert {name.removeprefix("./") for names in copied for name in names.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.fixture
def clone(tmp_path):
    """Copy the files that an editable install needs into a folder named bertnli."""
    home = tmp_path / "parent" / "bertnli"
    home.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, home / name)
    left_out = shutil.ignore_patterns("__pycache__", "models", "sample")
    shutil.copytree(ROOT / "bertnli", home / "bertnli", ignore=left_out)
    return home


def test_an_editable_install_is_imported_from_the_folder_that_holds_the_clone(clone, tmp_path):
    """There the clone's folder looks like a namespace package of the same name."""
    build = "from setuptools import build_meta; print(build_meta.build_editable('built'))"
    (clone / "built").mkdir()
    done = processes.run([sys.executable, "-c", build], cwd=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    site_packages = tmp_path / "site-packages"
    with zipfile.ZipFile(next((clone / "built").glob("*.whl"))) as wheel:
        wheel.extractall(site_packages)
    # Without the site module this environment's own bertnli is not found.
    code = (
        "import site, sys; site.addsitedir(sys.argv[1]); sys.path.append(sys.argv[2])\n"
        "import bertnli; print(bertnli.load.__name__, bertnli.__version__, bertnli.__file__)"
    )
    purelib = sysconfig.get_paths()["purelib"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for folder in (clone.parent, clone, tmp_path):
        argv = [sys.executable, "-S", "-c", code, str(site_packages), purelib]
        done = processes.run(argv, cwd=folder, env=env)
        assert done.returncode == 0, (folder, done.stderr)
        name, version, file = done.stdout.split()
        assert (name, version) == ("load", __version__)
        assert (folder / file).resolve() == clone / "bertnli" / "__init__.py"


@pytest.mark.long
def test_distributions(tmp_path):
    """Build the source distribution, and the wheel from it; twine checks both."""

    def run(*argv, cwd=ROOT):
        done = processes.run([sys.executable, "-m", *argv], cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("build", "--no-isolation", "--outdir", str(tmp_path))
    source, wheel = tmp_path / f"bertnli-{__version__}.tar.gz", next(tmp_path.glob("*.whl"))
    assert "PASSED" in run("twine", "check", "--strict", str(source), str(wheel))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(DATA) <= names
    tracked = {str(path.relative_to(ROOT)) for path in (ROOT / "bertnli").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == tracked
    static = {str(p.relative_to(ROOT)) for p in (ROOT / "bertnli/serve/static").glob("*")}
    static |= {"bertnli/evaluation/report.html.jinja", "bertnli/evaluation/report.css"}
    assert static <= names
    with tarfile.open(source) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {*SOURCE, *DATA, *tracked} <= files
    assert not [name for name in files if name.endswith(".pyc") or ".venv" in name]
