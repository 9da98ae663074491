"""What is built of the project: the version in one place, and whole distributions."""

from __future__ import annotations

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

from bertnli.version import __version__

ROOT = Path(__file__).resolve().parents[2]
#: What a wheel must have beside Python files.
DATA = (
    "bertnli/py.typed",
    "bertnli/data/sample/train.tsv",
    "bertnli/models/bert.mini/classifier/model.safetensors",
    "bertnli/models/bert.mini/pretrained/config.json",
)
#: What tests and documentation need of the source distribution.
SOURCE = (
    "tests/conftest.py",
    "tests/fixtures/torch/golden.npz",
    "tests/fixtures/zips/bert.tiny.zip",
    "tests/backends/workers_worker.py",
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


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__)
    assert 'version = { attr = "bertnli.version.__version__" }' in text("pyproject.toml")
    found = [
        path
        for path in (ROOT / "bertnli").rglob("*.py")
        if re.search(r"^__version__\s*=", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert found == [ROOT / "bertnli" / "version.py"]


def test_the_image_has_the_torch_that_is_tested() -> None:
    (tested,) = re.findall(r"^torch==(.+)$", text("constraints.txt"), re.MULTILINE)
    (taken,) = re.findall(r"^ARG TORCH=(.+)$", text("Dockerfile"), re.MULTILINE)
    assert taken == tested


def test_the_image_is_made_of_what_docker_may_see() -> None:
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \./\S*$", text("Dockerfile"), re.MULTILINE)
    assert {name.removeprefix("./") for names in copied for name in names.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What an editable install needs of the project, in a folder of its name."""
    home = tmp_path / "parent" / "bertnli"
    home.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, home / name)
    left_out = shutil.ignore_patterns("__pycache__", "models", "sample")
    shutil.copytree(ROOT / "bertnli", home / "bertnli", ignore=left_out)
    return home


def test_an_editable_install_is_imported_from_the_folder_that_holds_the_clone(
    clone: Path, tmp_path: Path
) -> None:
    """There the clone's folder would be a namespace package of the same name."""
    build = "from setuptools import build_meta; print(build_meta.build_editable('built'))"
    (clone / "built").mkdir()
    done = processes.run([sys.executable, "-c", build], cwd=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    site_packages = tmp_path / "site-packages"
    with zipfile.ZipFile(next((clone / "built").glob("*.whl"))) as wheel:
        wheel.extractall(site_packages)
    # Without the site module nothing of this environment's own installs is imported.
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
def test_distributions(tmp_path: Path) -> None:
    """The source distribution, and of it the wheel, both of which twine finds in order."""

    def run(*argv: str, cwd: Path = ROOT) -> str:
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
    assert static <= names
    with tarfile.open(source) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {*SOURCE, *DATA, *tracked} <= files
    assert not [name for name in files if name.endswith(".pyc") or ".venv" in name]
