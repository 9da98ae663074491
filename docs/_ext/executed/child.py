"""The process that a page's Python blocks run in, one after the other, in one namespace.

It is started with `python child.py` and speaks JSON, a line for a request and a line for its
answer. It knows nothing of Sphinx, and imports what the page imports and nothing else.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

#: Dots per inch of a figure that is saved for the page.
DPI = 144


def run(code: str, page: str, line: int, namespace: dict[str, Any], figure: str) -> None:
    """Execute a block, and print the value of its last expression as a notebook would.

    Args:
        code: Python.
        page, line: the file and the line where it begins, for tracebacks.
        namespace: where its names live.
        figure: the picture that it makes; empty for none. One that the code does not write itself
            is the last expression's, or pyplot's current figure.
    """
    tree = ast.parse(code, page)
    ast.increment_lineno(tree, line - 1)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    exec(compile(tree, page, "exec"), namespace)
    value = None if last is None else eval(compile(last, page, "eval"), namespace)
    if figure:
        _save_figure(figure, value)
    elif value is not None:
        print(repr(value))


def _save_figure(path: str, value: Any) -> None:
    if os.path.exists(path):
        return
    if not hasattr(value, "savefig"):
        from matplotlib import pyplot

        if not pyplot.get_fignums():
            raise FileNotFoundError(f"the block neither writes {path} nor makes a figure")
        value = pyplot.gcf()
    value.savefig(path, dpi=DPI)


def strings_in(code: str) -> list[str]:
    """Return the strings of a code, which may be names that it indexes a namespace with."""
    return sorted(
        {
            node.value
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    )


def export(names: list[str], path: str, namespace: dict[str, Any]) -> None:
    """Write those of the names that the namespace has to a file, for `compare` blocks to read."""
    values = {}
    for name in names:
        if name not in namespace:
            continue
        try:
            values[name] = pickle.dumps(namespace[name])
        except Exception as error:
            raise TypeError(
                f"{name} is a {type(namespace[name]).__name__}, which cannot leave its process "
                f"({error}); compare numbers, strings or NumPy arrays"
            ) from None
    Path(path).write_bytes(pickle.dumps(values))


def imported(path: str) -> dict[str, Any]:
    """Return what `export` wrote."""
    values: dict[str, bytes] = pickle.loads(Path(path).read_bytes())
    return {name: pickle.loads(value) for name, value in values.items()}


def _answer(request: dict[str, Any], namespace: dict[str, Any]) -> None:
    if "names" in request:
        export(request["names"], request["path"], namespace)
        return
    for name, path in request["given"].items():
        namespace[name] = imported(path)
    run(request["code"], request["page"], request["line"], namespace, request["figure"])


def _traceback(error: BaseException) -> str:
    """Return the traceback from the page's own frame on, without this file's."""
    frames = traceback.TracebackException.from_exception(error)
    kept = [frame for frame in frames.stack if frame.filename != __file__]
    frames.stack = traceback.StackSummary.from_list(kept)
    return "".join(frames.format())


def main() -> None:
    """Answer requests until there are no more."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Prints are caught where they leave the process, so that those of C libraries are there too.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line in requests:
        with tempfile.TemporaryFile() as caught:
            os.dup2(caught.fileno(), 1)
            error = ""
            try:
                _answer(json.loads(line), namespace)
            except BaseException as raised:
                error = _traceback(raised)
            sys.stdout.flush()
            caught.seek(0)
            text = caught.read().decode(errors="replace")
        print(json.dumps({"text": text, "error": error}), file=answers, flush=True)


if __name__ == "__main__":
    main()
