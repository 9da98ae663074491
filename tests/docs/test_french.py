"""The words that the site adds to pages in French."""

import re

#: Texts that are the same in both languages, or the page's own.
SAME = {"bertnli", "Copyright &#169;", "Furo", "Index", "Menu", "xx", "yy", "zz", "¶", ""}
SETTINGS = """
project = html_title = "bertnli"
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
extensions += ["french"]
"""
INDEX = "# xx\n\n```{toctree}\n:caption: Learn\n\nfirst\none\nfr/one\nlast\n```\n"
PAGE = "# xx\n\n## yy\n\n```{toctree}\ntwo\n```\n"
SPACED = "# zz\n\nUn « mot » : 549 367 paires ; `a : b`\net encore ?\n"


def words(page):
    """Return the texts of a page that a reader sees or hears."""
    page = re.sub(r"(?s)<(script|style)\b.*?</\1>|<!--.*?-->|<title>xx[^<]*", "", page)
    labels = re.findall(r'(?:aria-label|title|alt|placeholder)="([^"]*)"', page)
    return {text.strip() for text in [*re.split(r"<[^>]*>", page), *labels]}


def test_a_french_page(build):
    """Its words are French, and spaces before punctuation do not break."""
    pages = {"index": INDEX, "one": PAGE, "fr__one": PAGE, "first": "# zz\n", "two": "# zz\n"}
    site = build(settings=SETTINGS, **pages, last=SPACED, fr__two=SPACED)
    assert site.warnings == ""
    english, french = words(site.page("one")), words(site.page("fr/one"))
    assert english & french <= SAME
    assert english >= {"Contents", "Next", "Previous", "Search", "On this page", "Learn"}
    assert french >= {"Sommaire", "Suivant", "Précédent", "Rechercher", "Sur cette page"}
    assert french >= {"Apprendre", "Lien vers cette rubrique"}
    assert '<html class="no-js" lang="fr"' in site.page("fr/one")
    assert '<html class="no-js" lang="en"' in site.page("one")
    page = site.page("fr/two")
    assert "<p>Un «\u00a0mot\u00a0»\u00a0: 549\u00a0367 paires\u00a0; <code" in page
    assert ">:</span> <span" in page and "encore\u00a0?" in page
    assert "Un « mot » : 549 367 paires ;" in site.page("last")
