"""The packages of bertnli: which imports which."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import bertnli

ROOT = Path(bertnli.__file__).parent
MODULES = {
    ".".join(("bertnli", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


def imports(path):
    """Return the names of the modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in inner}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_there_are_no_circular_imports():
    """Neither among the modules, nor among the packages. `prepare` raises CycleError."""
    modules = {name: imports(path) & {*MODULES} - {name} for name, path in MODULES.items()}
    TopologicalSorter(modules).prepare()
    packages = defaultdict(set)
    for name, others in modules.items():
        for other in others:
            package, imported = (x.split(".")[1:2] for x in (name, other))
            if package and imported and package != imported:
                packages[package[0]] |= {*imported}
    assert len(packages) > 10
    TopologicalSorter(packages).prepare()


def test_the_root_has_few_modules():
    assert len([*ROOT.glob("*.py")]) <= 6


def test_only_the_backends_import_frameworks():
    for name, path in MODULES.items():
        if not name.startswith(("bertnli.backends.", "bertnli.d2l.")):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            sources = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
            assert not {source.split(".")[0] for source in sources} & {"torch", "mxnet"}, name
