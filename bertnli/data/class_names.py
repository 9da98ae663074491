"""What the numbers of a column of classes mean, as a table or the files beside it say."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bertnli._util.files import is_there, read_json_object, read_text
from bertnli.errors import DataError

#: Bytes of a README that is read, and aliases in its YAML.
MAX_CARD, MAX_ALIASES = 1 << 18, 16
#: The class names of columns; none of a column that has no classes.
Names = dict[str, tuple[str, ...]]


#: A configuration of a data set: its name, the patterns of its files, its class names.
Config = tuple[str, list[str], Names]


def names_beside(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return what the numbers in columns of a file mean, as the files of its data set say.

    These are ``dataset_info.json`` (of `Dataset.save_to_disk`), the header of ``README.md`` (with
    PyYAML) and ``dataset_infos.json``, in the file's folder and in the two above it; the first that
    has class names is taken. Of several configurations those count that the file belongs to, by its
    folders or by the patterns of their files, or else all; a column that they do not agree on is
    left out.
    """
    path = path.absolute()
    for folder in path.parents[:3]:
        inside = path.relative_to(folder)
        folders = {path.parent.name, *inside.parts[:-1]}
        for name, read in CARDS.items():
            try:
                configs = read(folder / name) if is_there(folder / name) else []
            except Exception:  # of many kinds: a file of another purpose, a damaged one, no PyYAML
                continue
            if any(map(known_names, (names for *_, names in configs))):
                own = [
                    names
                    for config, patterns, names in configs
                    if config in folders or any(fnmatchcase(str(inside), one) for one in patterns)
                ]
                return _agreed(own or [names for *_, names in configs])
    return {}


def _agreed(configs: list[Names]) -> Names:
    """Return the class names that all configurations with a column give it."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for names in configs:
        for column, classes in names.items():
            found.setdefault(column, set()).add(classes)
    return known_names({column: one.pop() for column, one in found.items() if len(one) == 1})


def known_names(names: Names) -> Names:
    return {column: classes for column, classes in names.items() if classes}


def _infos(path: Path) -> list[Config]:
    found = read_json_object(path, DataError)
    infos = {"": found} if "features" in found else found
    return [(name, [], class_names_of(info["features"])) for name, info in infos.items()]


def _card(path: Path) -> list[Config]:
    yaml: Any = importlib.import_module("yaml")

    class Loader(yaml.BaseLoader):
        """Takes scalars as text, as ``no`` may be a class; many aliases may stand for gigabytes."""

        aliases = 0

        def compose_node(self, *place: Any) -> Any:
            self.aliases += self.check_event(yaml.AliasEvent)
            if self.aliases > MAX_ALIASES:
                raise DataError("too many aliases")
            return super().compose_node(*place)

    text = read_text(path, DataError, MAX_CARD)
    card = yaml.load(text.removeprefix("---\n").partition("\n---")[0], Loader)
    infos, files = card["dataset_info"], card.get("configs", ())
    patterns = {config["config_name"]: [*_strings(config["data_files"])] for config in files}
    return [
        (name, patterns.get(name, []), class_names_of(info["features"]))
        for info in (infos if isinstance(infos, list) else [infos])
        for name in [info.get("config_name", "")]
    ]


CARDS = {"dataset_info.json": _infos, "README.md": _card, "dataset_infos.json": _infos}


def _strings(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    else:
        for one in found.values() if isinstance(found, dict) else found:
            yield from _strings(one)


def schema_names(schema: Any) -> Names:
    """Return the class names that datasets wrote into a schema."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        return class_names_of(about["info"]["features"])
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return {}


def class_names_of(features: Any, above: str = "") -> Names:
    """Return the class names of features, a README's list or an object of JSON."""
    if isinstance(features, list):
        features = {one.get("name"): one.get("struct", one.get("dtype")) for one in features}
    found: Names = {}
    for name, feature in features.items():
        about: dict[str, Any] = feature if isinstance(feature, dict) else {"_type": ""}
        if isinstance(feature, list) or not {"_type", "class_label"} & about.keys():
            found |= class_names_of(feature, f"{above}{name}.")
            continue
        names: Any = (about.get("class_label") or about).get("names")
        if isinstance(names, dict):
            names = [names[str(i)] for i in range(len(names))]
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            names = ()
        found[f"{above}{name}"] = tuple(names)
    return found
