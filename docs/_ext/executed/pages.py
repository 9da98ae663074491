"""What happens to a page that has been read: its blocks are run, and no code is left undeclared."""

from __future__ import annotations

import os
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from executed.blocks import SHELL, Output
from executed.directives import executed_block, literal
from executed.runner import run_page

logger = logging.getLogger(__name__)

#: Code of this language is none: trees, formats, what something printed elsewhere.
PLAIN = "text"


def run_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Fill each place of a block with its code and its output."""
    places = list(doctree.findall(executed_block))
    if not places:
        return
    page = str(app.env.doc2path(app.env.docname))
    cache = Path(app.srcdir, app.config.executed_cache)
    logger.info("running %d blocks", len(places), color="darkgreen")
    outputs, folder = run_page([place["block"] for place in places], page, cache)
    # From the source folder, as Sphinx wants pictures.
    pictures = "/" + Path(os.path.relpath(folder, app.srcdir)).as_posix()
    for place, output in zip(places, outputs, strict=True):
        place.replace_self(_cell(place, output, pictures))


def _cell(place: executed_block, output: Output, pictures: str) -> nodes.Element:
    """Return code, what it printed and its picture."""
    block = place["block"]
    cell = nodes.container("", classes=["cell"])
    if not place["hide_code"]:
        language = "bash" if block.where == SHELL else "python"
        cell += literal(block.code, language, "cell-code")
    if output.text and not place["hide_output"]:
        cell += literal(output.text, PLAIN, "cell-output")
    if output.figure:
        uri = f"{pictures}/{output.figure}"
        cell += nodes.image("", uri=uri, alt=place["alt"], classes=["cell-figure"])
    for node in cell.findall():
        node.source, node.line = place.source, place.line
    return cell


def check_declared(app: Sphinx, doctree: nodes.document) -> None:
    """Warn of code that neither runs nor says that it does not."""
    for block in doctree.findall(nodes.literal_block):
        if block.get("declared") or block.get("language") == PLAIN:
            continue
        if ":docstring of " in (block.source or ""):
            continue
        logger.warning(
            "a block of code that nothing runs: make it {run}, {both}, {compare} or {sh}, or say "
            "{not-run} LANGUAGE with a :why:; what is no code has the language text",
            location=block,
            type="executed",
            subtype="undeclared",
        )
