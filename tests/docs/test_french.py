"""The site's own words on pages in French."""

import re

import french
import pytest

#: What is the same in both languages, or a page's own.
SAME = {"bertnli", "Copyright &#169;", "Furo", "Index", "Menu", "xx", "yy", "zz", "¶", ""}
SETTINGS = """
project = html_title = "bertnli"
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
extensions += ["french"]
"""
INDEX = """# xx

```{toctree}
:caption: Learn

first
one
fr/one
last
```
"""
PAGE = "# xx\n\n## yy\n\n```{toctree}\ntwo\n```\n"


def words(page):
    """The texts of a page that a reader sees or hears."""
    page = re.sub(r"(?s)<(script|style)\b.*?</\1>|<!--.*?-->|<title>xx[^<]*", "", page)
    labels = re.findall(r'(?:aria-label|title|alt|placeholder)="([^"]*)"', page)
    return {text.strip() for text in [*re.split(r"<[^>]*>", page), *labels]}


def test_the_words_of_a_french_page_are_french(build):
    pages = dict.fromkeys(("one", "fr__one"), PAGE)
    rest = dict.fromkeys(("first", "last", "two", "fr__two"), "# zz\n")
    site = build(settings=SETTINGS, index=INDEX, **pages, **rest)
    assert site.warnings == ""
    english, in_french = words(site.page("one")), words(site.page("fr/one"))
    assert english & in_french <= SAME
    for word in ("Contents", "Next", "Previous", "Search", "On this page", "Learn"):
        assert word in english
    for word in ("Sommaire", "Suivant", "Précédent", "Rechercher", "Sur cette page", "Apprendre"):
        assert word in in_french
    assert "Lien vers cette rubrique" in in_french
    assert '<html class="no-js" lang="fr"' in site.page("fr/one")
    assert '<html class="no-js" lang="en"' in site.page("one")


def test_marks_stay_with_their_words(build):
    page = "# zz\n\nUn « mot » : 549 367 paires ; `a : b`\net encore ?\n"
    rest = dict.fromkeys(("first", "last", "one", "fr__one"), "# zz\n")
    site = build(settings=SETTINGS, index=INDEX, **(rest | {"last": page, "fr__one": page}))
    spaced = "Un «\u00a0mot\u00a0»\u00a0: 549\u00a0367 paires\u00a0;"
    assert f"<p>{spaced} <code" in site.page("fr/one")
    assert ">:</span> <span" in site.page("fr/one") and "encore\u00a0?" in site.page("fr/one")
    assert "Un « mot » : 549 367 paires ;" in site.page("last")


@pytest.mark.parametrize(
    ("text", "translated"),
    [("Next", "Suivant"), ("Link to this table", "Lien vers ce tableau"), ("other", "other")],
)
def test_in_french(text, translated):
    assert french.in_french(text) == translated
