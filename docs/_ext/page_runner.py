"""Runs a page's blocks, in order, in one process: each backend has a namespace of its own.

    python page_runner.py BLOCKS OUTPUTS

BLOCKS is JSON: a list of objects with page, line, where ("torch", "mxnet", "compare", "alone" or
"sh"), code, figure (a file name, or "") and status (what commands exit with). OUTPUTS gets, after
every block, the list of what the blocks printed; an error ends it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

DPI = 144
BASH = ["bash", "-euo", "pipefail", "-c"]


def run_python(block: dict[str, Any], namespace: dict[str, Any]) -> None:
    """Execute a block, print its last expression's value as a notebook would, save its figure."""
    tree = ast.parse(block["code"], block["page"])
    ast.increment_lineno(tree, block["line"] - 1)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    exec(compile(tree, block["page"], "exec"), namespace)
    value = None if last is None else eval(compile(last, block["page"], "eval"), namespace)
    if not block["figure"]:
        if value is not None:
            print(repr(value))
    elif not os.path.exists(block["figure"]):
        if not hasattr(value, "savefig"):
            raise FileNotFoundError(
                f"the block neither writes {block['figure']} nor ends in a figure"
            )
        value.savefig(block["figure"], dpi=DPI)


def run_block(block: dict[str, Any], namespaces: dict[str, dict[str, Any]]) -> str:
    """Run a block with standard output caught; return its error, or an empty text."""
    if block["where"] == "sh":
        done = subprocess.run([*BASH, block["code"]], stdin=subprocess.DEVNULL, stderr=1)
        if done.returncode != block["status"]:
            return f"the commands ended with status {done.returncode}, not {block['status']}"
    elif block["where"] == "alone":
        home = Path(f"alone-{block['line']}").resolve()
        home.mkdir()
        (home / "block.json").write_text(json.dumps([block | {"where": "torch"}]))
        command = [sys.executable, __file__, str(home / "block.json"), str(home / "output.json")]
        subprocess.run(command, check=True, cwd=home)
        [output] = json.loads((home / "output.json").read_text())
        print(output["text"], end="")
        if block["figure"] and not output["error"]:
            (home / block["figure"]).rename(block["figure"])
        return str(output["error"])
    else:
        try:
            run_python(block, namespaces[block["where"]])
        except BaseException as error:
            frames = traceback.TracebackException.from_exception(error)
            kept = [frame for frame in frames.stack if frame.filename != __file__]
            frames.stack = traceback.StackSummary.from_list(kept)
            return "".join(frames.format())
    if block["figure"] and not os.path.exists(block["figure"]):
        return f"the block did not write {block['figure']}"
    return ""


def main(blocks: str, outputs: str) -> None:
    """Run the blocks of a file."""
    namespaces: dict[str, dict[str, Any]] = {
        backend: {"__name__": "__main__"} for backend in ("torch", "mxnet")
    }
    namespaces["compare"] = {f"{name}_ns": space for name, space in namespaces.items()}
    results: list[dict[str, str]] = []
    for block in json.loads(Path(blocks).read_text()):
        # The file descriptor is redirected, so the output of C libraries and commands is caught.
        with tempfile.TemporaryFile() as caught:
            before = os.dup(1)
            os.dup2(caught.fileno(), 1)
            try:
                error = run_block(block, namespaces)
                sys.stdout.flush()
            finally:
                os.dup2(before, 1)
                os.close(before)
            caught.seek(0)
            results.append({"text": caught.read().decode(errors="replace"), "error": error})
        Path(outputs).write_text(json.dumps(results))
        if error:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
