"""The class names that Hugging Face's metadata gives the numbers of a column."""

from __future__ import annotations

import importlib
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bertnli._util.files import read_json_object, read_text
from bertnli.errors import DataError

#: Bytes of a README that are read, and aliases in its YAML.
MAX_CARD, MAX_ALIASES = 1 << 18, 16
#: Levels of nested features.
MAX_DEPTH = 5
#: Columns and their class names; an empty tuple for a column without classes.
Names = dict[str, tuple[str, ...]]


def names_beside(path: Path) -> Names:
    """Return the class names in the metadata of a file's data set.

    These are ``dataset_info.json`` (of `Dataset.save_to_disk`), the header of ``README.md`` (with
    PyYAML) and ``dataset_infos.json``, in the file's folder and in the two above. Of several
    configurations those count that are called as a folder of the file or whose patterns of files
    match it, or else all; a column that they do not agree on has no names.
    """
    path = path.absolute()
    for folder in path.parents[:3]:
        inside = str(path.relative_to(folder))
        for name in ("dataset_info.json", "README.md", "dataset_infos.json"):
            try:
                infos, patterns = (_card if name == "README.md" else _infos)(folder / name)
                configs = {key: class_names_of(info["features"]) for key, info in infos.items()}
            except Exception:  # none, of another purpose, damaged, or no PyYAML
                continue
            own = [
                names
                for key, names in configs.items()
                if key in path.parts[:-1] or any(fnmatchcase(inside, p) for p in patterns[key])
            ]
            agreed: Names = {}
            for names in own or configs.values():
                for column, classes in names.items():
                    agreed[column] = classes if agreed.get(column, classes) == classes else ()
            if named := {column: classes for column, classes in agreed.items() if classes}:
                return named
    return {}


#: The configurations of a data set by name, and the patterns of each one's files.
Infos = tuple[dict[str, Any], dict[str, list[str]]]


def _infos(path: Path) -> Infos:
    content = read_json_object(path, DataError)
    infos = {"": content} if "features" in content else content
    return infos, {name: [] for name in infos}


def _card(path: Path) -> Infos:
    yaml: Any = importlib.import_module("yaml")

    class Loader(yaml.BaseLoader):
        """Reads scalars as text, since ``no`` may be a class; bounds aliases, which may explode."""

        aliases = 0

        def compose_node(self, *place: Any) -> Any:
            self.aliases += self.check_event(yaml.AliasEvent)
            if self.aliases > MAX_ALIASES:
                raise DataError("too many aliases")
            return super().compose_node(*place)

    text = read_text(path, DataError, MAX_CARD)
    card = yaml.load(text.removeprefix("---\n").partition("\n---")[0], Loader)
    infos = card["dataset_info"]
    by_name = {
        info.get("config_name", ""): info
        for info in (infos if isinstance(infos, list) else [infos])
    }
    files = {one["config_name"]: [*_strings(one["data_files"])] for one in card.get("configs", ())}
    return by_name, {name: files.get(name, []) for name in by_name}


def _strings(value: Any) -> list[str]:
    """Return all strings in nested lists and mappings."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [text for item in items for text in _strings(item)]


def schema_names(schema: Any) -> Names:
    """Return the class names in an Arrow schema that datasets wrote."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = class_names_of(info["info"]["features"])
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return {}
    return {column: classes for column, classes in names.items() if classes}


def class_names_of(features: Any, prefix: str = "", depth: int = MAX_DEPTH) -> Names:
    """Return the class names of the columns of `datasets.Features`, as JSON or a README has it."""
    if isinstance(features, list):
        features = {item["name"]: item.get("struct", item.get("dtype")) for item in features}
    columns: Names = {}
    for name, feature in features.items():
        is_nested = isinstance(feature, dict) and not {"_type", "class_label"} & feature.keys()
        if (is_nested or isinstance(feature, list)) and depth:
            columns |= class_names_of(feature, f"{prefix}{name}.", depth - 1)
            continue
        label = feature if isinstance(feature, dict) else {}
        names = (label.get("class_label") or label).get("names")
        if isinstance(names, dict):
            names = [names[str(i)] for i in range(len(names))]
        is_list = isinstance(names, list) and all(isinstance(item, str) for item in names)
        columns[f"{prefix}{name}"] = tuple(names or ()) if is_list else ()
    return columns
