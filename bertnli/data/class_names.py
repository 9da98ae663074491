"""The class names that Hugging Face's metadata gives the numbers of a column."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bertnli._util.files import read_json_object, read_text
from bertnli.errors import DataError

#: Bytes of a README, and levels of its objects: its aliases may stand for exponentially many.
MAX_CARD, MAX_DEPTH = 1 << 18, 5
#: Columns and their class names; an empty tuple for a column without classes.
Names = dict[str, tuple[str, ...]]
#: A configuration of a data set: its name, the patterns of its files, its class names.
Config = tuple[str, list[str], Names]


def names_beside(path: Path) -> Names:
    """Return the class names that the metadata of a file's data set gives its columns.

    These are ``dataset_info.json`` (of `Dataset.save_to_disk`), the header of ``README.md`` (with
    PyYAML) and ``dataset_infos.json``, in the file's folder and the two above; the first with class
    names counts. Of several configurations those count that the file belongs to, by its folders or
    their patterns, or else all; a column that they do not agree on has no names.
    """
    path = path.absolute()
    for folder in path.parents[:3]:
        inside = path.relative_to(folder)
        folders = {path.parent.name, *inside.parts[:-1]}
        for name, read in CARDS.items():
            try:
                configs = read(folder / name)
            except Exception:  # of many kinds: no such file, one of another purpose, no PyYAML
                continue
            if any(map(known_names, (names for *_, names in configs))):
                matching = [
                    names
                    for config, patterns, names in configs
                    if config in folders or any(fnmatchcase(str(inside), p) for p in patterns)
                ]
                return _agreed(matching or [names for *_, names in configs])
    return {}


def _agreed(configs: list[Names]) -> Names:
    agreed: Names = {}
    for names in configs:
        for column, classes in names.items():
            agreed[column] = classes if agreed.get(column, classes) == classes else ()
    return known_names(agreed)


def known_names(names: Names) -> Names:
    """Return the columns that have class names."""
    return {column: classes for column, classes in names.items() if classes}


def _infos(path: Path) -> list[Config]:
    content = read_json_object(path, DataError)
    infos = {"": content} if "features" in content else content
    return [(name, [], class_names_of(info["features"])) for name, info in infos.items()]


def _card(path: Path) -> list[Config]:
    yaml: Any = importlib.import_module("yaml")
    text = read_text(path, DataError, MAX_CARD)
    # BaseLoader reads scalars as text: `no` may be a class.
    card = yaml.load(text.removeprefix("---\n").partition("\n---")[0], yaml.BaseLoader)
    files = card.get("configs", ())
    patterns = {config["config_name"]: [*_strings(config["data_files"])] for config in files}
    infos = card["dataset_info"]
    return [
        (name, patterns.get(name, []), class_names_of(info["features"]))
        for info in (infos if isinstance(infos, list) else [infos])
        for name in [info.get("config_name", "")]
    ]


CARDS = {"dataset_info.json": _infos, "README.md": _card, "dataset_infos.json": _infos}


def _strings(value: Any, depth: int = MAX_DEPTH) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item, depth - 1)


def schema_names(schema: Any) -> Names:
    """Return the class names in an Arrow schema that datasets wrote."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        return known_names(class_names_of(info["info"]["features"]))
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return {}


def class_names_of(features: Any, prefix: str = "", depth: int = MAX_DEPTH) -> Names:
    """Return the class names of features: a README's list, or an object of JSON."""
    if isinstance(features, list):
        features = {item.get("name"): item.get("struct", item.get("dtype")) for item in features}
    columns: Names = {}
    for name, feature in features.items():
        is_nested = isinstance(feature, list) or (
            isinstance(feature, dict) and not {"_type", "class_label"} & feature.keys()
        )
        if is_nested and depth:
            columns |= class_names_of(feature, f"{prefix}{name}.", depth - 1)
        if is_nested:
            continue
        described: Any = feature if isinstance(feature, dict) else {}
        names: Any = (described.get("class_label") or described).get("names")
        if isinstance(names, dict):
            names = [names[str(i)] for i in range(len(names))]
        is_list = isinstance(names, list) and all(isinstance(item, str) for item in names)
        columns[f"{prefix}{name}"] = tuple(names) if is_list else ()
    return columns
