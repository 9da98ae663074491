"""A Sphinx extension: French words and spaces of the site itself on the pages under fr/.

Sphinx has one language for a whole site. The templates of these pages get Sphinx's French
catalogue, and `WORDS` for the theme's own texts.
"""

from __future__ import annotations

import gettext
import re
from pathlib import Path
from typing import Any

import sphinx
from docutils import nodes
from jinja2.ext import Extension
from sphinx.application import Sphinx

#: What Sphinx's catalogue lacks: the theme's words, and the captions of the contents.
WORDS = {
    "Auto light/dark, in dark mode": "Automatique, en ce moment sombre",
    "Auto light/dark, in light mode": "Automatique, en ce moment clair",
    "Back to top": "Haut de page",
    "Background": "Contexte",
    "Contents": "Sommaire",
    "Dark Logo": "Logo sombre",
    "Dark mode": "Mode sombre",
    "Expand": "Développer",
    "Home": "Accueil",
    "Learn": "Apprendre",
    "Light Logo": "Logo clair",
    "Light mode": "Mode clair",
    "Made with ": "Réalisé avec ",
    "Next": "Suivant",
    "On this page": "Sur cette page",
    "Previous": "Précédent",
    "Reference": "Référence",
    "Search": "Rechercher",
    "Skip to content": "Aller au contenu",
    "Toggle Light / Dark / Auto color theme": "Changer de thème\u00a0: clair, sombre, automatique",
    "Toggle navigation of %s": "Afficher ou masquer la rubrique %s",
    "Toggle site navigation sidebar": "Afficher ou masquer la navigation",
    "Toggle table of contents sidebar": "Afficher ou masquer le sommaire",
    "View this page": "Voir la source de la page",
}
#: Titles of links that are a part of a page's body.
LINKS = (
    "Link to this code",
    "Link to this definition",
    "Link to this heading",
    "Link to this image",
    "Link to this table",
    "Link to this term",
)

_CATALOGUE = gettext.translation("sphinx", Path(sphinx.__file__).parent / "locale", ["fr"])


def in_french(text: str) -> str:
    """Return a text of the site's templates in French; as it is where it has no translation."""
    return WORDS.get(text) or _CATALOGUE.gettext(text)


class TranslatedLabels(Extension):
    """Makes labels and the names of icons, which the theme writes in English, translatable."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """See `jinja2.ext.Extension.preprocess`."""
        source = re.sub(r'\b(aria-label|alt)="([A-Z][^"{}]*)"', r'\1="{{ _("\2") }}"', source)
        return re.sub(r"<title>([A-Z][^<{}]*)</title>", r'<title>{{ _("\1") }}</title>', source)


def _unbreakable_spaces(app: Sphinx, doctree: nodes.document) -> None:
    """Put no-break spaces before :;?!», after «, and between the thousands of a number."""
    if not app.env.docname.startswith("fr/"):
        return
    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, (nodes.literal, nodes.literal_block)):
            continue
        kept = re.sub(r"[ \n](?=[:;?!»])|(?<=«)[ \n]|(?<=\d) (?=\d{3}\b)", "\u00a0", text)
        if kept != text:
            text.parent.replace(text, nodes.Text(kept))


def _translate_labels(app: Sphinx) -> None:
    templates = getattr(app.builder, "templates", None)
    if templates is not None:  # of a builder that writes HTML
        templates.environment.add_extension(TranslatedLabels)


def _translate_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    if not pagename.startswith("fr/"):
        return
    context["language"] = "fr"
    context["gettext"] = in_french
    context["ngettext"] = lambda one, several, n: in_french(one if n < 2 else several)
    for text in LINKS:
        body = context.get("body", "")
        context["body"] = body.replace(f'title="{text}"', f'title="{in_french(text)}"')
    tree = context.get("furo_navigation_tree", "")
    tree = re.sub(r'(?<=<span class="caption-text">)[^<]*', lambda m: in_french(m[0]), tree)
    label = in_french("Toggle navigation of %s")
    context["furo_navigation_tree"] = re.sub(
        r'(?<=aria-label=")Toggle navigation of ([^"]*)', lambda m: label % m[1], tree
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("builder-inited", _translate_labels)
    # Before the titles are collected.
    app.connect("doctree-read", _unbreakable_spaces, priority=300)
    # After the theme has put its own parts into the context.
    app.connect("html-page-context", _translate_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
