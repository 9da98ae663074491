"""Tables of what the library knows."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from bertnli.data.classes import NO_LABELS, SPELLINGS
from bertnli.data.corpus import TABLE
from bertnli.data.layouts import LAYOUTS, WNLI


def rows(page: str) -> list[list[str]]:
    """Return the text of each cell of a page's tables."""
    return [
        [html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in re.findall(CELL, row)]
        for row in re.findall(r"(?s)<tr.*?</tr>", page)
    ]


CELL = r"(?s)<td.*?</td>"


def test_each_layout_and_spelling_is_in_its_table(build: Callable) -> None:
    site = build(
        'extensions += ["known"]',
        index="# P\n\n```{known} layouts\n```\n\n```{known} spellings\n```\n",
    )
    assert site.warnings == ""
    found = rows(site.page())
    names = [row[0] for row in found if row]
    assert len(found) == 2 + len(LAYOUTS) + 1 + len(SPELLINGS) + 1
    for layout in (*LAYOUTS, WNLI):
        assert layout.name in names or layout.name == TABLE
        mine = [row for row in found if row and row[0] in (layout.name, "the Hub, and others")]
        columns = (*layout.premise.names, *layout.hypothesis.names)
        assert any(all(column in row[1] for column in columns) for row in mine)
    for name, spellings in SPELLINGS.items():
        assert [name, ", ".join(spellings)] in found
    assert all(spelling in found[-1][1] for spelling in NO_LABELS)
