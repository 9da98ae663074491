"""What Sphinx is told of our docstrings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from docstrings import as_napoleon_wants, unlinked
from docutils import nodes


def test_errors_that_share_a_line_get_one_each() -> None:
    lines = """One line.

    Args:
        net: A, B: of whatever kind.
        one, two,
            three: numbers.

    Raises:
        ConfigError, DataError: something is wrong
            on two lines.
        OSError: no disk.
    """.splitlines()
    as_napoleon_wants(None, "function", "f", None, None, lines)
    assert "\n".join(lines[6:]) == (
        "    Raises:\n"
        "        ConfigError: something is wrong\n"
        "            on two lines.\n"
        "        DataError: something is wrong\n"
        "            on two lines.\n"
        "        OSError: no disk.\n"
        "    "
    )
    assert lines[3:5] == [
        "        net: A, B: of whatever kind.",
        "        one, two, three: numbers.",
    ]


@pytest.mark.parametrize(
    ("reference", "linked"),
    [
        ({"refdomain": "py", "reftype": "class", "reftarget": "numpy.ndarray"}, False),
        ({"refdomain": "py", "reftype": "obj", "reftarget": "make test"}, False),
        ({"refdomain": "py", "reftype": "class", "reftarget": "bertnli.Nothing"}, True),
        ({"refdomain": "std", "reftype": "doc", "reftarget": "nothing"}, True),
    ],
)
def test_only_our_own_names_must_be_there(reference: dict, linked: bool) -> None:
    text = nodes.literal()
    found = unlinked(None, None, SimpleNamespace(get=reference.get), text)
    assert found is (None if linked else text)
