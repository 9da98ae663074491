"""Fixtures of the tests of the site; makes its extension and scripts importable."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path[:0] = [str(DOCS), str(DOCS / "_ext")]

CONF = """
extensions = ["myst_parser", "executed", "tables"]
myst_enable_extensions = ["colon_fence"]
html_theme = "basic"
exclude_patterns = ["_build"]
"""


@dataclass
class Site:
    """A small site: the folder of its pages, and Sphinx's warnings."""

    html: Path
    warnings: str

    def page(self, name="index"):
        """Return a page's HTML."""
        return (self.html / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture
def build(tmp_path):
    """A function that builds a site of pages in Markdown, with more lines for conf.py."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    source = tmp_path / "source"

    def built(settings="", **pages):
        source.mkdir(exist_ok=True)
        (source / "conf.py").write_text(CONF + settings, encoding="utf-8")
        for name, text in pages.items():
            path = source / f"{name.replace('__', '/')}.md"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        warnings, html, trees = io.StringIO(), source / "_build/html", source / "_build/trees"
        with patch_docutils(), docutils_namespace():
            Sphinx(source, source, html, trees, "html", status=None, warning=warnings).build()
        return Site(html, warnings.getvalue())

    return built
