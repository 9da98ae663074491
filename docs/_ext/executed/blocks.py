"""What a page has to execute, and what came of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sphinx.errors import SphinxError

BACKENDS = ("torch", "mxnet")
#: What a tab is called.
TAB_NAMES = {"torch": "PyTorch", "mxnet": "MXNet"}
#: The namespaces of `compare` blocks, which see the others' values.
COMPARE = "compare"
#: An `alone` block sees nothing of its page.
ALONE = "alone"
#: Commands of the shell run in no namespace.
SHELL = "sh"

_BACKEND = "{backend}"
_MXNET_VARIANT = re.compile(r"^# -{2,} MXNet\s*$", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


class ExecutionError(SphinxError):
    """A block that failed, or that cannot be what the page says; it ends the build."""

    category = "Execution error"


@dataclass(frozen=True)
class Block:
    """A piece of a page that is executed.

    Args:
        where: ``"torch"``, ``"mxnet"``, `COMPARE`, `ALONE` or `SHELL`.
        code: Python, or commands.
        line: where it begins in its page.
        figure: name of the picture that it makes; empty for none.
        status: the exit status that commands have to end with.
    """

    where: str
    code: str
    line: int
    figure: str = ""
    status: int = 0

    def identity(self) -> list[str | int]:
        """Return all that its output depends on; where it stands is not of it."""
        return [self.where, self.code, self.figure, self.status]


@dataclass(frozen=True)
class Output:
    """What a block gave.

    Args:
        text: what it printed.
        figure: name of its picture in the folder of the page's outputs; empty for none.
    """

    text: str
    figure: str = ""


def for_backend(code: str, backend: str) -> tuple[str, int]:
    """Return the code of a tab, and the lines before it; ``{backend}`` in it is the tab's name.

    Where a line ``# ---- MXNet`` divides the code, what stands before it is PyTorch's and what
    stands after it MXNet's.
    """
    dividers = list(_MXNET_VARIANT.finditer(code))
    if len(dividers) > 1:
        raise ExecutionError("more than one line '# ---- MXNet' in a block; one divides it in two")
    before = 0
    if dividers and backend == "mxnet":
        before = code.count("\n", 0, dividers[0].end()) + 1
        code = code[dividers[0].end() + 1 :]
    elif dividers:
        code = code[: dividers[0].start()]
    return code.rstrip("\n").replace(_BACKEND, backend), before


def cleaned(text: str) -> str:
    """Return what a terminal would show in the end: no escapes, each line as it was last written.

    A progress bar goes back to its line's start with a carriage return and writes it again.
    """
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    shown = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]
    return "\n".join(shown).strip("\n")
