"""How Sphinx builds this site; `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "_ext")]

from bertnli.version import __version__  # noqa: E402

project = "bertnli"
author = "The bertnli developers"
project_copyright = "The bertnli developers, Apache-2.0"
release = version = __version__
language = "en"
default_role = "py:obj"
smartquotes = False  # pages of code, in two languages

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "executed",
    "french",
    "tables",
]
exclude_patterns = ["_build", "notebooks", "results"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

# What signatures name and no user makes.
nitpick_ignore = [
    ("py:class", "bertnli.data.dataset.Dataset"),
    ("py:class", "bertnli.data.encode.EncodedPairs"),
    ("py:class", "bertnli.data.packing.PaddingCost"),
    ("py:class", "bertnli.data.parses.SentenceColumn"),
    ("py:class", "bertnli.hub.catalogue.HubView"),
    ("py:class", "bertnli.training.optimizer.BaseWeightAverage"),
    ("py:class", "bertnli.training.state.TrainingState"),
    ("py:class", "bertnli.training.workers.Workers"),
]

html_theme = "furo"
html_title = f"bertnli {__version__}"
html_static_path = ["_static"]
html_css_files = ["bertnli.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo-dark.svg",
    "sidebar_hide_name": True,
    "light_css_variables": {
        "color-brand-primary": "#0f5f78",
        "color-brand-content": "#0f5f78",
        "color-brand-visited": "#5b4a8a",
        "color-api-name": "#0f5f78",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6cc5dd",
        "color-brand-content": "#6cc5dd",
        "color-brand-visited": "#b7a6e6",
        "color-api-name": "#6cc5dd",
    },
}

linkcheck_timeout = 20
linkcheck_anchors = False


def _write_notebooks(app: Any) -> None:
    """Write the notebooks that the tutorial offers, where its page finds them."""
    from build_notebooks import write_notebooks

    write_notebooks(Path(app.srcdir, "_build", "notebooks"))


def _without_link(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Return the text of a reference that the site cannot have; None for what it must have.

    Types of other libraries, and names in single backticks that are no object of ours, get no link.
    """
    is_ours = node["reftarget"].startswith("bertnli") and "," not in node["reftarget"]
    if node.get("refdomain") == "py" and (node["reftype"] == "obj" or not is_ours):
        return text
    return None


def setup(app: Any) -> None:
    """Connect this site's own hooks."""
    app.connect("builder-inited", _write_notebooks)
    app.connect("missing-reference", _without_link)
