"""A Sphinx extension: French labels and typography for the pages under fr/.

Sphinx has one language for a whole site. So the templates of these pages are translated here, with
Sphinx's French catalogue, and with `WORDS` for the texts that it lacks.
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

#: Translations that Sphinx's catalogue lacks: the theme's texts, and the captions of the contents.
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
    "Toggle navigation of": "Afficher ou masquer la rubrique",
    "Toggle site navigation sidebar": "Afficher ou masquer la navigation",
    "Toggle table of contents sidebar": "Afficher ou masquer le sommaire",
    "View this page": "Voir la source de la page",
}
#: Texts that are in the HTML of a page's body and of the contents.
_IN_HTML = re.compile(
    '(?<= title=")Link to this \\w+|(?<=aria-label=")Toggle navigation of|'
    '(?<=<span class="caption-text">)[^<]*'
)
_CATALOGUE = gettext.translation("sphinx", Path(sphinx.__file__).parent / "locale", ["fr"])


def in_french(text: str) -> str:
    """Translate a text of the site's templates, or return it if it has no translation."""
    return WORDS.get(text) or _CATALOGUE.gettext(text)


class TranslatedLabels(Extension):
    """A Jinja extension that makes the theme's labels and icon titles translatable."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        source = re.sub(r'\b(aria-label|alt)="([A-Z][^"{}]*)"', r'\1="{{ _("\2") }}"', source)
        return re.sub(r"<title>([A-Z][^<{}]*)</title>", r'<title>{{ _("\1") }}</title>', source)


def _unbreakable_spaces(app: Sphinx, doctree: nodes.document) -> None:
    """Put no-break spaces before :;?!», after «, and between the thousands of a number."""
    if not app.env.docname.startswith("fr/"):
        return
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, (nodes.literal, nodes.literal_block)):
            spaced = re.sub(r"[ \n](?=[:;?!»])|(?<=«)[ \n]|(?<=\d) (?=\d{3}\b)", "\u00a0", text)
            text.parent.replace(text, nodes.Text(spaced))


def _translate_labels(app: Sphinx) -> None:
    templates = getattr(app.builder, "templates", None)
    if templates is not None:  # the builder writes HTML
        templates.environment.add_extension(TranslatedLabels)


def _translate_page(app: Sphinx, page: str, _: str, context: dict[str, Any], *__: Any) -> None:
    if not page.startswith("fr/"):
        return
    context["language"] = "fr"
    context["gettext"] = in_french
    context["ngettext"] = lambda one, several, n: in_french(one if n < 2 else several)
    for part in ("body", "furo_navigation_tree"):
        context[part] = _IN_HTML.sub(lambda match: in_french(match[0]), context.get(part, ""))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", _translate_labels)
    # Before Sphinx collects the titles.
    app.connect("doctree-read", _unbreakable_spaces, priority=300)
    # After the theme has extended the context.
    app.connect("html-page-context", _translate_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
