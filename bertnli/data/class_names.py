"""The class names that Hugging Face's metadata gives the numbers of a column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bertnli._util.files import read_json_object
from bertnli.errors import BERTNLIError, DataError

#: Levels of nested features.
MAX_DEPTH = 5
#: Columns and their class names; an empty tuple for a column without classes.
Names = dict[str, tuple[str, ...]]


def names_beside(path: Path) -> Names:
    """Return the class names in the metadata of a file's data set.

    These are ``dataset_info.json`` (of `Dataset.save_to_disk`) and ``dataset_infos.json``, in the
    file's folder and in the two above. Of several configurations the one counts that is called as a
    folder of the file, or else all; a column that they do not agree on has no names.
    """
    path = path.absolute()
    for folder in path.parents[:3]:
        for name in ("dataset_info.json", "dataset_infos.json"):
            try:
                content = read_json_object(folder / name, DataError)
                infos = {"": content} if "features" in content else content
                configs = {key: class_names_of(info["features"]) for key, info in infos.items()}
            except (BERTNLIError, LookupError, TypeError, AttributeError, RecursionError):
                continue  # there is none, or it is of another purpose
            own = [names for key, names in configs.items() if key in path.parts[:-1]]
            agreed: Names = {}
            for names in own or configs.values():
                for column, classes in names.items():
                    agreed[column] = classes if agreed.get(column, classes) == classes else ()
            return {column: classes for column, classes in agreed.items() if classes}
    return {}


def schema_names(schema: Any) -> Names:
    """Return the class names in an Arrow schema that datasets wrote."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = class_names_of(info["info"]["features"])
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return {}
    return {column: classes for column, classes in names.items() if classes}


def class_names_of(features: Any, prefix: str = "", depth: int = MAX_DEPTH) -> Names:
    """Return the class names of the columns of `datasets.Features`, as JSON."""
    columns: Names = {}
    for name, feature in features.items():
        if isinstance(feature, dict) and "_type" not in feature and depth:
            columns |= class_names_of(feature, f"{prefix}{name}.", depth - 1)
        else:
            names = feature.get("names") if isinstance(feature, dict) else None
            is_list = isinstance(names, list) and all(isinstance(item, str) for item in names)
            columns[f"{prefix}{name}"] = tuple(names or ()) if is_list else ()
    return columns
