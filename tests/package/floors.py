"""The oldest versions that pyproject.toml allows, as constraints for pip.

    python floors.py [NAME...] > constraints

Packages named NAME are left out. Needs packaging, and tomli before Python 3.11.
"""

import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Extras for developers, whose versions are not tested.
TOOLS = ("docs", "dev", "browser")


def requirements():
    """Return the requirements of bertnli and its extras."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    lists = [project["dependencies"], *(needs for name, needs in extras if name not in TOOLS)]
    return [Requirement(text) for needs in lists for text in needs]


def floors():
    """Return the oldest version of each package by its name in pyproject.toml."""
    oldest = {}
    for need in requirements():
        for rule in need.specifier:
            if rule.operator in (">=", "=="):
                assert oldest.get(need.name) in (None, rule.version), need
                oldest[need.name] = rule.version
    without = {need.name for need in requirements()} - {*oldest}
    assert not without, f"without an oldest version: {without}"
    return oldest


def main():
    """Print a constraint for each package that is not left out."""
    left_out = {canonicalize_name(name) for name in sys.argv[1:]}
    for name, version in sorted(floors().items()):
        if canonicalize_name(name) not in left_out:
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
