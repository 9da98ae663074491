"""Class names that Hugging Face's metadata gives the numbers of a label column."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bertnli._util.files import read_json_object, read_text
from bertnli.errors import DataError

#: Bytes of a README that are read, and aliases in its YAML.
MAX_CARD, MAX_ALIASES = 1 << 18, 16
#: Levels of nested features.
MAX_DEPTH = 5
#: Column to class names, of which the first is class 0; an empty tuple for no or unclear classes.
Names = dict[str, tuple[str, ...]]


def names_beside(path: Path) -> Names:
    """Find the class names of a file's columns in the metadata of its data set.

    The metadata are ``dataset_info.json`` (by `Dataset.save_to_disk`), the header of ``README.md``
    (needs PyYAML) and ``dataset_infos.json``, in the file's folder or in the two above. A data set
    may have several configurations. The file belongs to those that have the name of one of its
    folders, or a pattern of data files that matches it; if there are none, to all. Columns on which
    these disagree are left out.
    """
    path = path.absolute()
    for folder in path.parents[:3]:
        for name in ("dataset_info.json", "README.md", "dataset_infos.json"):
            try:
                configs = [
                    (key, patterns, class_names_of(features))
                    for key, patterns, features in _configs(folder / name)
                ]
            except Exception:  # missing, of another purpose, damaged, or no PyYAML
                continue
            inside = str(path.relative_to(folder))
            matching = [
                names
                for key, patterns, names in configs
                if key in path.parts[:-1] or any(fnmatchcase(inside, p) for p in patterns)
            ]
            if names := _agreed(matching or [names for *_, names in configs]):
                return names
    return {}


def _agreed(configs: Iterable[Names]) -> Names:
    """Merge the class names of several configurations; drop columns on which they disagree."""
    agreed: Names = {}
    for names in configs:
        for column, classes in names.items():
            agreed[column] = classes if agreed.get(column, classes) == classes else ()
    return {column: classes for column, classes in agreed.items() if classes}


def _configs(path: Path) -> Iterator[tuple[str, list[str], Any]]:
    """Yield the name, patterns of data files, and features of each configuration in a file."""
    if path.suffix == ".json":
        content = read_json_object(path, DataError)
        infos = {"": content} if "features" in content else content
        yield from ((name, [], info["features"]) for name, info in infos.items())
        return
    yaml: Any = importlib.import_module("yaml")

    class Loader(yaml.BaseLoader):
        """A YAML loader that keeps all scalars as text (``no`` may be a class)."""

        aliases = 0

        def compose_node(self, *place: Any) -> Any:
            self.aliases += self.check_event(yaml.AliasEvent)
            if self.aliases > MAX_ALIASES:
                raise DataError("too many aliases")
            return super().compose_node(*place)

    text = read_text(path, DataError, MAX_CARD)
    card = yaml.load(text.removeprefix("---\n").partition("\n---")[0], Loader)
    files = {c["config_name"]: [*_strings(c["data_files"])] for c in card.get("configs", ())}
    infos = card["dataset_info"]
    for info in infos if isinstance(infos, list) else [infos]:
        name = info.get("config_name", "")
        yield name, files.get(name, []), info["features"]


def _strings(value: Any) -> list[str]:
    """Flatten nested lists and mappings of strings."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [text for item in items for text in _strings(item)]


def schema_names(schema: Any) -> Names:
    """Read the class names of columns from a pyarrow schema that `datasets` wrote."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        return _agreed([class_names_of(info["info"]["features"])])
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return {}


def class_names_of(features: Any, prefix: str = "", depth: int = MAX_DEPTH) -> Names:
    """Extract the class names of columns from `datasets.Features` in JSON or a README.

    Columns are nested up to ``depth`` levels; ``prefix`` is put before their names.
    """
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
