"""The names of a classifier's classes, from the id2label and label2id of a config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What tools write where nobody named a class.
_NO_NAME = re.compile(r"(LABEL_)?\d+", re.IGNORECASE)


def read_class_names(described: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, str]:
    """Return the classes' names in the order of the logits, and why there are none.

    A class has the name that either side gives it. ``LABEL_0`` and plain numbers are no names, and
    contradict nothing. What is wrong is returned and not raised: an encoder has no classes, and
    where a file contradicts itself, the user's names must have the last word.

    Args:
        described: what a config.json says; id2label may be a list, and the values of label2id
            numbers or their digits.

    Returns:
        The names, or None; and what is wrong with them, empty where there is nothing to say.
    """
    try:
        ids = _of_id2label(described.get("id2label"))
        labels = _of_label2id(described.get("label2id"))
    except ValueError as error:
        return None, str(error)
    places = {_plain(name): i for i, name in ids.items() if name}
    contradiction = "label2id and id2label contradict each other"
    for name, i in labels.items():
        if places.get(_plain(name), i) != i:
            return None, f"{contradiction} about {name!r}"
    found = []
    for i in range(max([*ids, *labels.values()], default=-1) + 1):
        others = [name for name, place in labels.items() if place == i]
        name = ids.get(i, "")
        if name and others and _plain(name) not in map(_plain, others):
            return None, f"{contradiction} about class {i}: {name!r}, {others[0]!r}"
        if not name and len(others) > 1:
            return None, f"label2id has several names of class {i}: {', '.join(others)}"
        found.append(name or "".join(others))
    if not any(found):
        return None, ""
    if not all(found):
        return None, f"id2label does not give class {found.index('')} a name, nor does label2id"
    if len({*map(_plain, found)}) < len(found):
        return None, f"id2label does not give each class a name of its own: {found}"
    return tuple(found), ""


def _of_id2label(given: Any) -> dict[int, str]:
    """Return a name, or nothing, for each class that is listed."""
    if isinstance(given, list):
        given = {str(i): name for i, name in enumerate(given)}
    if not given:
        return {}
    if not isinstance(given, dict) or {*given} != {str(i) for i in range(len(given))}:
        raise ValueError(f"id2label does not number the classes from 0: {_short(given)}")
    for value in given.values():
        if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
            raise ValueError(f"id2label does not give each class a name, but {_short(value)}")
    return {int(i): _name(value) for i, value in given.items()}


def _of_label2id(given: Any) -> dict[str, int]:
    """Return the class of each name."""
    if isinstance(given, list):
        given = {str(name): i for i, name in enumerate(given)}
    if not given:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"label2id does not map names to numbers: {_short(given)}")
    found = {}
    for name, number in given.items():
        if isinstance(number, bool) or not re.fullmatch(r"[0-9]{1,6}", str(number)):
            raise ValueError(f"label2id does not give {name!r} a number, but {_short(number)}")
        if _name(name):
            found[name] = int(number)
    return found


def _name(value: str | int | None) -> str:
    """Return a name as it is, and nothing for what is none."""
    text = "" if value is None else str(value)
    return "" if _NO_NAME.fullmatch(text.strip()) else text


def _plain(name: str) -> str:
    return name.strip().lower()


def _short(value: Any) -> str:
    return f"{value!r:.80}"
