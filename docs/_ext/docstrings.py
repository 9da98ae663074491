"""A Sphinx extension: what our docstrings write, as Sphinx wants it.

A name in single backticks is a link where the site has such a name, and code otherwise; the types
of other libraries in signatures are no links.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

_NAMES = re.compile(r"^\s+[\w, ]+,$")
_RAISES = re.compile(r"^\s*Raises:\s*$")
_SEVERAL = re.compile(r"^(\s+)([A-Z]\w+(?:, [A-Z]\w+)+): (.*)$")


def as_napoleon_wants(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Write what several names share so that napoleon reads it.

    ``OneError, OtherError: when`` of a section Raises is written once for each of the errors; names
    that go on over lines are put on one.
    """
    found: list[str] = []
    rest = iter(lines)
    for line in rest:
        while _NAMES.match(line):
            line = f"{line} {next(rest, '').strip()}"
        found.append(line)
        if _RAISES.match(line):
            found += _raised(list(rest))
    lines[:] = found


def _raised(lines: list[str]) -> list[str]:
    """Return the lines after ``Raises:``, which is the last section of our docstrings."""
    found: list[str] = []
    while lines:
        several = _SEVERAL.match(lines[0])
        if several is None:
            found.append(lines.pop(0))
            continue
        indent, errors, text = several.groups()
        del lines[0]
        more = []
        while lines and lines[0].startswith(indent + " "):
            more.append(lines.pop(0))
        for error in errors.split(", "):
            found += [f"{indent}{error}: {text}", *more]
    return found


def unlinked(app: Sphinx, env: Any, node: pending_xref, contnode: nodes.Element) -> Any:
    """Return the text of a reference that the site cannot have; None for what it must have."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    if node.get("reftype") == "obj" or not target.startswith("bertnli"):
        return contnode
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    # Before napoleon reads the sections.
    app.connect("autodoc-process-docstring", as_napoleon_wants, priority=100)
    app.connect("missing-reference", unlinked)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
