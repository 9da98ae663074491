"""The names of a classifier's classes, from the id2label and label2id of a config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: What tools write where nobody named a class.
_NO_NAME = re.compile(r"\s*((LABEL_)?\d+)?\s*", re.IGNORECASE)


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
        names = _agreed(ids, labels)
    except ValueError as error:
        return None, str(error)
    if not any(names):
        return None, ""
    if not all(names):
        return None, f"id2label does not give class {names.index('')} a name, nor does label2id"
    if len({*map(_plain, names)}) < len(names):
        return None, f"id2label does not give each class a name of its own: {names}"
    return tuple(names), ""


def _agreed(ids: Mapping[int, str], labels: Mapping[str, int]) -> list[str]:
    """Return the name of each class, which may be empty; ValueError for a contradiction."""
    places = {_plain(name): i for i, name in ids.items() if name}
    for name, i in labels.items():
        if places.get(_plain(name), i) != i:
            raise ValueError(f"label2id and id2label contradict each other about {name!r}")
    names = []
    for i in range(max([*ids, *labels.values()], default=-1) + 1):
        others = [name for name, place in labels.items() if place == i]
        name = ids.get(i, "")
        if name and others and _plain(name) not in map(_plain, others):
            raise ValueError(
                f"label2id and id2label contradict each other about class {i}: {name!r}, "
                f"{others[0]!r}"
            )
        if not name and len(others) > 1:
            raise ValueError(f"label2id has several names of class {i}: {', '.join(others)}")
        names.append(name or "".join(others))
    return names


def _of_id2label(given: Any) -> dict[int, str]:
    """Return a name, or nothing, for each class that is listed."""
    if isinstance(given, list):
        given = {str(i): name for i, name in enumerate(given)}
    if not given:
        return {}
    if not isinstance(given, dict) or {*given} != {str(i) for i in range(len(given))}:
        raise ValueError(f"id2label does not number the classes from 0: {given!r:.80}")
    for value in given.values():
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ValueError(f"id2label does not give each class a name, but {value!r:.80}")
    texts = {int(i): "" if value is None else str(value) for i, value in given.items()}
    return {i: "" if _NO_NAME.fullmatch(text) else text for i, text in texts.items()}


def _of_label2id(given: Any) -> dict[str, int]:
    """Return the class of each name."""
    if isinstance(given, list):
        given = {str(name): i for i, name in enumerate(given)}
    if not given:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"label2id does not map names to numbers: {given!r:.80}")
    for name, number in given.items():
        if isinstance(number, bool) or not re.fullmatch(r"[0-9]{1,6}", str(number)):
            raise ValueError(f"label2id does not give {name!r} a number, but {number!r:.80}")
    return {name: int(number) for name, number in given.items() if not _NO_NAME.fullmatch(name)}


def _plain(name: str) -> str:
    return name.strip().lower()
