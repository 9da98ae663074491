"""Runs the blocks of a page, each backend's in a process of its own, and remembers what came of it.

What a tab prints is then what its reader will see, unhelped by the other framework.

The processes are started, never forked; they and the shell share the page's temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from executed import child
from executed.blocks import ALONE, BACKENDS, COMPARE, SHELL, Block, ExecutionError, Output, cleaned

#: Seconds that a block may take.
LIMIT = 900
#: Columns of a command's help.
COLUMNS = 92
_OUTPUTS = "outputs.json"
_PACKAGES = ("matplotlib", "mxnet", "numpy", "torch")


def run_page(blocks: Sequence[Block], page: str, cache: Path) -> tuple[list[Output], Path]:
    """Return what a page's blocks give, and the folder of their pictures.

    Args:
        blocks: in the order of the page.
        page: its file.
        cache: folder of earlier outputs. A page whose blocks, library and frameworks are the same
            as then is not run again.

    Raises:
        ExecutionError: a block failed; the message has the page and the line.
    """
    kept = cache / _key(blocks)
    if not (kept / _OUTPUTS).is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as beside:
            whole = Path(beside) / "page"
            whole.mkdir()
            outputs = _run(blocks, page, whole)
            found = json.dumps([asdict(output) for output in outputs], indent=1)
            (whole / _OUTPUTS).write_text(found, encoding="utf-8")
            shutil.rmtree(kept, ignore_errors=True)
            whole.rename(kept)
    found = json.loads((kept / _OUTPUTS).read_text(encoding="utf-8"))
    return [Output(**output) for output in found], kept


def _key(blocks: Sequence[Block]) -> str:
    """Return a name for all that the outputs depend on."""
    state = [[block.identity() for block in blocks], code_state(), sys.version, COLUMNS]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:24]


def code_state() -> str:
    """Return a hash of the library, its data and models, this code and the frameworks."""
    found = hashlib.sha256()
    for folder in (Path(__file__).parent, _library()):
        for path in sorted(folder.rglob("*")):
            if (
                path.is_file()
                and path.suffix not in (".pyc", ".md")
                and "__pycache__" not in str(path)
            ):
                found.update(str(path.relative_to(folder)).encode())
                found.update(path.read_bytes())
    for package in _PACKAGES:
        try:
            found.update(f"{package} {metadata.version(package)}".encode())
        except metadata.PackageNotFoundError:
            found.update(f"no {package}".encode())
    return found.hexdigest()


def _library() -> Path:
    """Return the library's folder, without importing it."""
    spec = find_spec("bertnli")
    if spec is None or spec.origin is None:
        raise ExecutionError("bertnli is not installed, whose pages these are")
    return Path(spec.origin).parent


def _run(blocks: Sequence[Block], page: str, pictures: Path) -> list[Output]:
    """Run the blocks in a new folder, and keep their pictures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertnli-docs-")))
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertnli-docs-")))
        environment = _environment(private)
        children: dict[str, Child] = {}

        def child_of(where: str) -> Child:
            if where not in children:
                started = Child(folder, environment, private / f"{where}.stderr")
                children[where] = stack.enter_context(started)
            return children[where]

        outputs = []
        for i, block in enumerate(blocks):
            at = f"{page}:{block.line}"
            home = folder
            if block.where == ALONE:
                home = private / f"{ALONE}-{i}"
                home.mkdir()
            if block.figure:
                (home / block.figure).unlink(missing_ok=True)
            if block.where == SHELL:
                text = _shell(block, folder, environment, at)
            else:
                given = {}
                if block.where == COMPARE:
                    names = child.strings_in(block.code)
                    for backend in BACKENDS:
                        path = given[f"{backend}_ns"] = str(private / f"{backend}.pickle")
                        child_of(backend).ask({"names": names, "path": path}, at)
                request = {
                    "code": block.code,
                    "page": page,
                    "line": block.line,
                    "given": given,
                    "figure": block.figure,
                }
                if block.where == ALONE:
                    messages = home.with_suffix(".stderr")
                    with Child(home, environment, messages) as alone:
                        text = alone.ask(request, at)
                else:
                    text = child_of(block.where).ask(request, at)
            picture = ""
            if block.figure:
                if not (home / block.figure).is_file():
                    raise ExecutionError(f"{at}: the block did not write {block.figure}")
                picture = f"{i}-{Path(block.figure).name}"
                shutil.copyfile(home / block.figure, pictures / picture)
            # Where this machine keeps things is nobody's business.
            for place in (home, _library().parent):
                text = text.replace(f"{place}/", "")
            outputs.append(Output(cleaned(text), picture))
    return outputs


def _environment(private: Path) -> dict[str, str]:
    """Return the environment of the page's processes: ours, with a cache that nobody shares."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {
        **os.environ,
        "PATH": path,
        "BERTNLI_CACHE": str(private / "cache"),
        "COLUMNS": str(COLUMNS),
        "MPLBACKEND": "agg",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "ignore",
    }


def _shell(block: Block, folder: Path, environment: dict[str, str], at: str) -> str:
    """Return what commands print, to either stream."""
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise ExecutionError(f"{at}: the commands took more than {LIMIT} seconds") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode != block.status:
        raise ExecutionError(
            f"{at}: the commands ended with status {done.returncode}, and the page says "
            f"{block.status}\n{cleaned(text)}"
        )
    return text


class Child:
    """A process that runs Python blocks; see `child.py`.

    Args:
        folder: where it works.
        environment: of the process.
        messages: the file that its standard error goes to.
    """

    def __init__(self, folder: Path, environment: dict[str, str], messages: Path) -> None:
        self._messages = messages
        with messages.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, child.__file__],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(self, request: dict[str, Any], at: str) -> str:
        """Send a request and return what it printed.

        Raises:
            ExecutionError: it failed, took too long, or the process is gone.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        limit = threading.Timer(LIMIT, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if not line:
            messages = self._messages.read_text(encoding="utf-8", errors="replace")
            raise ExecutionError(
                f"{at}: the process that ran this block is gone, or took more than {LIMIT} "
                f"seconds\n{messages[-4000:]}"
            )
        answer = json.loads(line)
        if answer["error"]:
            raise ExecutionError(f"{at}: the block failed\n{answer['error']}")
        text: str = answer["text"]
        return text
