"""Tables of results: made of JSON, which says what its source says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from executed.blocks import ExecutionError
from executed.tables import formatted

ROOT = Path(__file__).parents[2]
TABLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs" / "results").glob("*.json"))
}
#: Of the others the source is an older commit's, and says so.
IN_A_FILE = [name for name, found in TABLES.items() if (ROOT / found["source"]).is_file()]


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
def test_formatted(value: Any, spec: str, text: str) -> None:
    assert formatted(value, spec) == text


def test_a_table_of_some_columns_and_rows(build: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "source" / "results"
    folder.mkdir(parents=True)
    found = {
        "script": "benchmarks/some.py",
        "date": "May 2026",
        "columns": {
            "what": {"label": ""},
            "fast": {"label": "pairs/s", "format": ",d"},
            "memory": {"label": "MB", "format": ",d"},
        },
        "rows": [
            {"what": "ours", "fast": [1000, 900, 1100], "memory": 1},
            {"what": "theirs", "fast": 10, "memory": 2},
            {"what": "nobody's", "fast": 5, "memory": 3},
        ],
    }
    (folder / "some.json").write_text(json.dumps(found), encoding="utf-8")
    table = (
        "# P\n\n```{bench-table} some.json\n:columns: what, fast\n:rows: theirs; ours\n"
        ":best: ours\n:medians:\n```\n"
    )
    page = build(index=table).page()
    assert "benchmarks/some.py · May 2026" in page
    assert page.index("theirs") < page.index("ours</p>") < page.index("1,000")
    assert "(900" not in page and "nobody" not in page and "<p>MB" not in page
    with pytest.raises(ExecutionError, match=r"index\.md:3: no table can be made of .*some\.json"):
        build(index=table.replace("theirs;", "they;"))


@pytest.mark.parametrize("name", TABLES)
def test_a_file_says_where_it_is_from(name: str) -> None:
    found = TABLES[name]
    assert found["title"] and found["script"] and found["date"]
    assert name in IN_A_FILE or " at " in found["source"]
    assert all(row.keys() <= found["columns"].keys() for row in found["rows"])


@pytest.mark.parametrize("name", IN_A_FILE)
def test_numbers_are_those_of_the_source(name: str) -> None:
    found = TABLES[name]
    columns = found["columns"]
    text = (ROOT / found["source"]).read_text(encoding="utf-8").replace("`", "")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for row in found["rows"]:
        cells = [formatted(row[name], columns[name].get("format", "")) for name in columns]
        cells = [cell.replace("–", "-") for cell in cells if cell]
        assert any(all(cell in line for cell in cells) for line in lines), row
