"""A Sphinx extension: pages whose code is run when they are built.

    {run} python        in one backend's namespace, down the page
    {both} python       on each backend, as two tabs
    {alone} python      in a process and a folder of its own: what a reader can run by itself
    {compare} python    sees the values of both; its output alone is shown
    {sh}                commands
    {not-run} LANGUAGE  shown, and said not to be run
    {cli-help} COMMAND  what a command's --help prints
    {bench-table} FILE  a table of measured numbers
    {beside}            a box for what holds the two backends against each other

Any other block of code is a warning, unless its language is text. A block that fails ends the build
with its file and line. Outputs are kept under the build folder until code, library or frameworks
change.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from executed.directives import (
    Alone,
    Beside,
    Both,
    CliHelp,
    Compare,
    NotRun,
    Run,
    Shell,
    executed_block,
)
from executed.pages import check_declared, run_blocks
from executed.runner import code_state
from executed.tables import BenchTable

DIRECTIVES = {
    "alone": Alone,
    "run": Run,
    "both": Both,
    "compare": Compare,
    "sh": Shell,
    "not-run": NotRun,
    "cli-help": CliHelp,
    "bench-table": BenchTable,
    "beside": Beside,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives to Sphinx."""
    app.setup_extension("sphinx_design")
    # Under the source folder, where Sphinx finds the pictures.
    app.add_config_value("executed_cache", "_build/executed", "env", str)
    # Pages that have not changed are read again where the library has.
    app.add_config_value("executed_state", code_state(), "env", str)
    app.add_node(executed_block)
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    # Before Sphinx collects the pictures of a page.
    app.connect("doctree-read", check_declared, priority=100)
    app.connect("doctree-read", run_blocks, priority=200)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
