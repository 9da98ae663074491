"""The class names and their order. Labels are matched by name; their ids are places in a list."""

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
#: The spellings of the second class in the sets that have it (HANS, RTE, ...).
NOT_ENTAILMENT = frozenset(
    f"{no}{between}entailment" for no in ("non", "not") for between in ("-", "_", " ")
)


def are_distinct(labels: Sequence[str]) -> bool:
    """Return whether the names are distinct, whatever their case, and none is empty."""
    return len({label.strip().lower() for label in labels} | {""}) > len(labels)


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Return class names that a user gave; ConfigError unless it is a list of distinct strings."""
    # A string would be split into letters; mappings and sets do not fix the order of the logits.
    is_list = isinstance(labels, Iterable) and not isinstance(labels, str | bytes | Mapping | Set)
    names = tuple(labels) if is_list else (None,)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"labels is {list(names) if is_list else labels!r:.200}; a list of strings is "
            "expected, a name for each class in the order of the logits, such as "
            "['entailment', 'neutral', 'contradiction']"
        )
    if len(names) < 2:
        raise ConfigError(f"labels={[*names]} (--labels) must name two classes or more")
    if not are_distinct(names):
        raise ConfigError(f"labels={[*names]} (--labels) must be distinct, and not empty")
    return tuple(map(str, names))


def label_permutation(labels: Sequence[str], expected: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each expected label among other ones, matched by name in any case.

    ``logits[:, label_permutation(labels, expected)]`` has its columns in the expected order.

    Raises:
        DataError: the two are not the same set of names, or a name is repeated.
    """
    places = {name.strip().lower(): i for i, name in enumerate(labels)}
    wanted = [name.strip().lower() for name in expected]
    if len(places) != len(labels) or sorted(places) != sorted(wanted):
        raise DataError(
            f"the labels {list(labels)} are not the labels {list(expected)} in another order; "
            "say which stands for which"
        )
    return np.array([places[name] for name in wanted], dtype=np.int64)


def canonical_label(name: str) -> str:
    """Return the canonical spelling of a class name, in lower case."""
    name = name.strip().lower()
    return TWO_WAY[1] if name in NOT_ENTAILMENT else name


def label_merging(labels: Sequence[str], expected: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each of a classifier's labels among those expected of a set, by name.

    Where entailment and non-entailment are expected of the three classes of NLI, neutral and
    contradiction are both mapped to non-entailment. Otherwise the names must be the same, or a
    DataError proposes a ``--label-map``.
    """
    names, wanted = ([canonical_label(name) for name in side] for side in (labels, expected))
    if sorted(wanted) == sorted(TWO_WAY) and sorted(names) == sorted(LABELS):
        names = [name if name == TWO_WAY[0] else TWO_WAY[1] for name in names]
        return np.array([wanted.index(name) for name in names], dtype=np.int64)
    if sorted(wanted) == sorted(names):
        return label_permutation(wanted, names)
    known = dict(zip(names, labels, strict=True))
    if sorted(known) == sorted(TWO_WAY):  # neutral and contradiction are no entailment
        known |= dict.fromkeys(LABELS[1:], known[TWO_WAY[1]])
    proposed = ",".join(f"{to}={known.get(canonical_label(to), 'CLASS')}" for to in expected)
    raise DataError(
        f"the classes {list(expected)} of the set are not the classifier's, {list(labels)}; say "
        f"which it has for each with label_map= (--label-map {proposed}), or load the classifier "
        "with other names for its classes, labels= (--labels)"
    )
