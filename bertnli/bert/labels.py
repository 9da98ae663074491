"""The class names and their order: labels are names first, ids second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.errors import ConfigError, DataError

#: The classes in the book's order: the id of a label is its place here.
LABELS = ("entailment", "contradiction", "neutral")
#: The classes of a two-way set: does the hypothesis follow, or not?
TWO_WAY = ("entailment", "non-entailment")
#: What the second of them is called in the sets that have it (HANS, RTE, ...).
NOT_ENTAILMENT = frozenset(
    f"{no}{between}entailment" for no in ("non", "not") for between in ("-", "_", " ")
)


def are_distinct(labels: Sequence[str]) -> bool:
    """Return whether each class has a name of its own; upper and lower case are the same."""
    return len({label.strip().lower() for label in labels} | {""}) > len(labels)


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Return class names that a user gave, in their order.

    Raises:
        ConfigError: it is no list of strings, or a class has no name of its own.
    """
    # A text would be taken for its letters; a dictionary or a set tells no order of the logits.
    listed = isinstance(labels, Iterable) and not isinstance(labels, str | bytes | Mapping | Set)
    found = list(labels) if listed else []
    if not listed or not all(isinstance(name, str) for name in found):
        raise ConfigError(
            f"labels is {found or labels!r:.200}; a list of strings is expected, a name for each "
            "class in the order of the logits, such as ['entailment', 'neutral', 'contradiction']"
        )
    if len(found) < 2:
        raise ConfigError(f"labels={found} (--labels) has no two classes; give two names at least")
    if not are_distinct(found):
        raise ConfigError(f"labels={found} (--labels) do not give each class a name of its own")
    return tuple(map(str, found))


def label_permutation(found: Sequence[str], expected: Sequence[str]) -> NDArray[np.int64]:
    """Return where each expected label stands among the found ones, matched by name.

    ``logits[:, label_permutation(found, expected)]`` has its columns in the expected order.

    Args:
        found: names in a file's order; upper and lower case are the same.
        expected: names in the order wanted.

    Raises:
        DataError: the two are not the same set of names, or a name stands twice.
    """
    places = {name.strip().lower(): i for i, name in enumerate(found)}
    wanted = [name.strip().lower() for name in expected]
    if len(places) != len(found) or sorted(places) != sorted(wanted):
        raise DataError(
            f"the labels {list(found)} are not the labels {list(expected)} in another order; "
            "say which stands for which"
        )
    return np.array([places[name] for name in wanted], dtype=np.int64)


def canonical_label(name: str) -> str:
    """Return the canonical spelling of a class name, in lower case."""
    name = name.strip().lower()
    return TWO_WAY[1] if name in NOT_ENTAILMENT else name


def label_merging(found: Sequence[str], expected: Sequence[str]) -> NDArray[np.int64]:
    """Return the place among the expected labels that each found one is part of, by name.

    The same names in any order are matched. Where entailment and non-entailment are expected of
    the three classes of NLI, neutral and contradiction are both parts of non-entailment.

    Args:
        found: names of a classifier's classes, in the order of its logits.
        expected: names of a set's classes.

    Raises:
        DataError: there is no such way from one to the other.
    """
    names, wanted = [canonical_label(n) for n in found], [canonical_label(n) for n in expected]
    if sorted(wanted) == sorted(TWO_WAY) and sorted(names) == sorted(LABELS):
        names = [name if name == TWO_WAY[0] else TWO_WAY[1] for name in names]
        return np.array([wanted.index(name) for name in names], dtype=np.int64)
    if sorted(wanted) != sorted(names):
        raise DataError(
            f"the classes {list(expected)} of the set are not the classifier's, {list(found)}; say "
            f"which it has for each with label_map= (--label-map {_proposed_map(found, expected)}),"
            " or load the classifier with other names for its classes, labels= (--labels)"
        )
    return label_permutation(wanted, names)


def _proposed_map(found: Sequence[str], expected: Sequence[str]) -> str:
    """Return a ``--label-map`` from a set's classes to a classifier's, as far as it is known."""
    known = {canonical_label(name): name for name in found}
    if sorted(known) == sorted(TWO_WAY):  # neutral and contradiction are no entailment
        known |= dict.fromkeys(LABELS[1:], known[TWO_WAY[1]])
    return ",".join(f"{name}={known.get(canonical_label(name), 'CLASS')}" for name in expected)
