"""Tables that are made from data: results of benchmarks, layouts and spellings of labels."""

import html
import json
import re
from pathlib import Path

import pytest
from tables import formatted

from bertnli.data.classes import NO_LABELS, SPELLINGS
from bertnli.data.corpus import TABLE
from bertnli.data.layouts import LAYOUTS, WNLI

ROOT = Path(__file__).parents[2]
TABLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs" / "results").glob("*.json"))
}
#: Tables whose numbers are also in another file.
IN_A_FILE = [
    name for name, results in TABLES.items() if (ROOT / results.get("source", "?")).is_file()
]


def rows(page):
    """Return the text of each cell of a page's tables."""
    return [
        [
            html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()
            for cell in re.findall(r"(?s)<td.*?</td>", row)
        ]
        for row in re.findall(r"(?s)<tr.*?</tr>", page)
    ]


def test_each_layout_and_spelling_is_in_its_table(build):
    site = build(index="# P\n\n```{known} layouts\n```\n\n```{known} spellings\n```\n")
    assert site.warnings == ""
    table_rows = rows(site.page())
    assert len(table_rows) == 2 + len(LAYOUTS) + 1 + len(SPELLINGS) + 1
    for layout in (*LAYOUTS, WNLI):
        assert layout.name == TABLE or any(layout.name in row[:1] for row in table_rows)
        shown = [row for row in table_rows if {*row[:1]} & {layout.name, "the Hub, and others"}]
        columns = (*layout.premise.names, *layout.hypothesis.names)
        assert any(all(column in row[1] for column in columns) for row in shown)
    for name, spellings in SPELLINGS.items():
        assert [name, ", ".join(spellings)] in table_rows
    assert all(spelling in table_rows[-1][1] for spelling in NO_LABELS)


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (1402, ",.0f", "1,402"),
        (None, ".1f", ""),
        ("as it is", "", "as it is"),
        ([47, 42, 49], ",.0f", "47 (42–49)"),
        (-0.26, "+.2f", "-0.26"),
    ],
)
def test_formatted(value, spec, text):
    assert formatted(value, spec) == text


def test_a_table_of_some_columns_and_rows(build, tmp_path):
    folder = tmp_path / "source" / "results"
    folder.mkdir(parents=True)
    columns = {
        "what": {"label": ""},
        "fast": {"label": "pairs/s", "format": ",d"},
        "memory": {"label": "MB", "format": ",d"},
    }
    cells = [("ours", [1000, 900, 1100], 1), ("theirs", 10, 2), ("nobody's", 5, 3)]
    values = [dict(zip(columns, row, strict=True)) for row in cells]
    results = {"script": "benchmarks/some.py", "date": "May 2026", "columns": columns}
    (folder / "some.json").write_text(json.dumps({**results, "rows": values}), encoding="utf-8")
    table = (
        "# P\n\n```{bench-table} some.json\n:columns: what, fast\n:rows: theirs; ours\n"
        ":best: ours\n:medians:\n```\n"
    )
    page = build(index=table).page()
    assert "benchmarks/some.py · May 2026" in page
    assert page.index("theirs") < page.index("<strong>ours</strong>") < page.index("1,000")
    assert "(900" not in page and "nobody" not in page and "MB" not in page
    warnings = build(index=table.replace("theirs;", "they;")).warnings
    assert "index.md:3" in warnings and "no table can be made of" in warnings


@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_results_names_its_source(name):
    results = TABLES[name]
    assert results["title"] and results["script"] and results["date"]
    assert "source" not in results or name in IN_A_FILE or " at " in results["source"]
    assert all(row.keys() <= results["columns"].keys() for row in results["rows"])


@pytest.mark.parametrize("name", IN_A_FILE)
def test_numbers_are_those_of_the_source(name):
    results = TABLES[name]
    columns = results["columns"]
    text = (ROOT / results["source"]).read_text(encoding="utf-8").replace("`", "")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for row in results["rows"]:
        cells = [formatted(row[name], columns[name].get("format", "")) for name in columns]
        cells = [cell.replace("–", "-") for cell in cells if cell]
        assert any(all(cell in line for cell in cells) for line in lines), row
