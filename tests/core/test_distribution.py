"""What is built of the project: the version in one place, and whole distributions."""

from __future__ import annotations

import re
import sys
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
