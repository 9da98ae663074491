"""The packages of bertnli: what imports what."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import bertnli

ROOT = Path(bertnli.__file__).parent
MODULES = {
    ".".join(("bertnli", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


def imported(path):
    """The modules that a file imports, wherever it does so, for types alone too."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in inner}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & MODULES.keys()


def check(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_no_modules_import_each_other():
    check({name: imported(path) - {name} for name, path in MODULES.items()})


def test_no_packages_import_each_other():
    graph = defaultdict[str, set[str]](set)
    for name, path in MODULES.items():
        room = name.split(".")[1:2]
        for other in imported(path):
            if room and other.split(".")[1:2] not in ([], room):
                graph[room[0]].add(other.split(".")[1])
    assert len(graph) > 10
    check(graph)


def test_the_root_is_small():
    assert len([*ROOT.glob("*.py")]) <= 6


def test_above_the_backends_there_is_no_framework():
    for name, path in MODULES.items():
        if not name.startswith("bertnli.backends."):
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            sources = {n.module for n in tree if isinstance(n, ast.ImportFrom) and n.module}
            assert not {source.split(".")[0] for source in sources} & {"torch", "mxnet"}, name
