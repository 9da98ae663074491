"""Run the blocks of a page in order; each backend has its own namespace.

Standard input is a JSON list of objects with page, line, where ("torch", "mxnet", "compare",
"alone" or "sh"), code, figure (a file name, or "") and status (the expected exit status of
commands). After each block, a JSON line [output, error] is printed; an error is the last line.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
import traceback
from typing import Any

DPI = 144
BASH = ["bash", "-euo", "pipefail", "-c"]


def run_python(block: dict[str, Any], namespace: dict[str, Any]) -> None:
    """Execute a block; print the value of its last expression, or save it as the block's figure."""
    tree = ast.parse(block["code"], block["page"])
    ast.increment_lineno(tree, block["line"] - 1)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else ast.Pass()
    exec(compile(tree, block["page"], "exec"), namespace)
    value = None
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), block["page"], "eval"), namespace)
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
    """Run a block and return its error, or an empty string."""
    if block["where"] == "sh":
        done = subprocess.run([*BASH, block["code"]], stdin=subprocess.DEVNULL, stderr=1)
        if done.returncode != block["status"]:
            return f"the commands ended with status {done.returncode}, not {block['status']}"
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


def main() -> None:
    torch, mxnet, alone = ({"__name__": "__main__"} for _ in range(3))
    compare = {"torch_ns": torch, "mxnet_ns": mxnet}
    namespaces: Any = {"torch": torch, "mxnet": mxnet, "alone": alone, "compare": compare}
    with open(os.dup(1), "w") as results:
        for block in json.load(sys.stdin):
            # The file descriptor is redirected, to catch the output of C libraries and commands.
            with tempfile.TemporaryFile() as output:
                os.dup2(output.fileno(), 1)
                error = run_block(block, namespaces)
                sys.stdout.flush()
                output.seek(0)
                text = output.read().decode(errors="replace")
            print(json.dumps([text, error]), file=results, flush=True)
            if error:
                return


if __name__ == "__main__":
    main()
