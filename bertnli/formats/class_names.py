"""The class names in the ``id2label`` and ``label2id`` of a config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bertnli.bert.labels import are_distinct, plain

#: What tools write if nobody has named a class.
_PLACEHOLDER = re.compile(r"\s*((LABEL_)?\d+)?\s*", re.IGNORECASE)


def read_class_names(described: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, str]:
    """Read the class names in a config.json.

    A class may be named by ``id2label``, ``label2id`` or both. ``LABEL_0`` and plain numbers are
    placeholders, not names. Problems are returned, not raised: a model without classes needs no
    names, and names that the user gives replace those of a file that contradicts itself.

    Args:
        described: the content of the config.json.

    Returns:
        The names in the order of the logits, or None; and a message if something is wrong.
    """
    try:
        ids, labels = _id2label(described.get("id2label")), _label2id(described.get("label2id"))
        positions = {plain(name): i for i, name in ids.items() if name}
        others: dict[int, list[str]] = {}
        for name, i in labels.items():
            if positions.get(plain(name), i) != i:
                raise ValueError(f"label2id and id2label contradict each other about {name!r}")
            others.setdefault(i, []).append(name)
        number = max([*ids, *others], default=-1) + 1
        names = tuple(_name_of(i, ids.get(i, ""), others.get(i, [])) for i in range(number))
    except ValueError as error:
        return None, str(error)
    if not any(names):
        return None, ""
    if not all(names):
        return None, f"id2label does not give class {names.index('')} a name, nor does label2id"
    if not are_distinct(names):
        return None, f"id2label does not give each class a name of its own: {[*names]}"
    return names, ""


def _name_of(i: int, name: str, others: list[str]) -> str:
    """Choose the name of class ``i`` from its name in id2label and its names in label2id."""
    if name and others and plain(name) not in map(plain, others):
        raise ValueError(
            f"label2id and id2label contradict each other about class {i}: {name!r}, {others[0]!r}"
        )
    if not name and len(others) > 1:
        raise ValueError(f"label2id has several names of class {i}: {', '.join(others)}")
    return name or "".join(others)


def _id2label(value: Any) -> dict[int, str]:
    """Parse id2label, a dictionary or a list; a placeholder becomes an empty name."""
    names = {str(i): name for i, name in enumerate(value)} if isinstance(value, list) else value
    if not names:
        return {}
    if not isinstance(names, dict) or {*names} != {str(i) for i in range(len(names))}:
        raise ValueError(f"id2label does not number the classes from 0: {names!r:.80}")
    for name in names.values():
        if isinstance(name, bool) or not isinstance(name, str | int | None):
            raise ValueError(f"id2label does not give each class a name, but {name!r:.80}")
    texts = {int(i): "" if name is None else str(name) for i, name in names.items()}
    return {i: "" if _PLACEHOLDER.fullmatch(text) else text for i, text in texts.items()}


def _label2id(value: Any) -> dict[str, int]:
    """Parse label2id, a dictionary or a list, without placeholders."""
    ids = {str(name): i for i, name in enumerate(value)} if isinstance(value, list) else value
    if not ids:
        return {}
    if not isinstance(ids, dict):
        raise ValueError(f"label2id does not map names to numbers: {ids!r:.80}")
    for name, number in ids.items():
        if isinstance(number, bool) or not re.fullmatch(r"[0-9]{1,6}", str(number)):
            raise ValueError(f"label2id does not give {name!r} a number, but {number!r:.80}")
    return {name: int(number) for name, number in ids.items() if not _PLACEHOLDER.fullmatch(name)}
