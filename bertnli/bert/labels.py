"""Class names and their order: labels of two sources are matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.errors import ConfigError, DataError

#: The classes in the book's order: the id of a label is its index here.
LABELS = ("entailment", "contradiction", "neutral")
#: The classes of a two-way corpus: does the hypothesis follow, or not?
TWO_WAY = ("entailment", "non-entailment")
#: The spellings of the second class in two-way corpora (HANS, RTE, ...).
NOT_ENTAILMENT = frozenset(
    f"{no}{between}entailment" for no in ("non", "not") for between in ("-", "_", " ")
)


def plain(name: str) -> str:
    """Normalise a class name for comparisons: lower case, no spaces around it."""
    return name.strip().lower()


def are_distinct(labels: Sequence[str]) -> bool:
    """Return whether class names are distinct, ignoring case, and none is empty."""
    return len({*map(plain, labels), ""}) > len(labels)


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
    """Return the index of each expected label in ``labels``, ignoring case.

    ``logits[:, label_permutation(labels, expected)]`` has its columns in the expected order. Two
    different sets of names are a DataError.
    """
    positions = {plain(name): i for i, name in enumerate(labels)}
    order = [plain(name) for name in expected]
    if len(positions) != len(labels) or sorted(positions) != sorted(order):
        raise DataError(
            f"the labels {list(labels)} are not the labels {list(expected)} in another order; "
            "say which stands for which"
        )
    return np.array([positions[name] for name in order], dtype=np.int64)


def canonical_label(name: str) -> str:
    """Normalise a class name, and replace all spellings of non-entailment by one."""
    return TWO_WAY[1] if plain(name) in NOT_ENTAILMENT else plain(name)


def label_merging(labels: Sequence[str], expected: Sequence[str]) -> NDArray[np.int64]:
    """Return the index in ``expected`` of the class that each of ``labels`` stands for.

    The names must be the same, except that neutral and contradiction both stand for non-entailment
    if the expected classes are entailment and non-entailment.

    Args:
        labels: a classifier's class names, in the order of its logits.
        expected: a corpus's class names.
    """
    names, targets = ([canonical_label(name) for name in side] for side in (labels, expected))
    if sorted(targets) == sorted(TWO_WAY) and sorted(names) == sorted(LABELS):
        names = [name if name == TWO_WAY[0] else TWO_WAY[1] for name in names]
        return np.array([targets.index(name) for name in names], dtype=np.int64)
    if sorted(targets) == sorted(names):
        return label_permutation(targets, names)
    known = dict(zip(names, labels, strict=True))
    if sorted(known) == sorted(TWO_WAY):  # neutral and contradiction are no entailment
        known |= dict.fromkeys(LABELS[1:], known[TWO_WAY[1]])
    proposed = ",".join(f"{to}={known.get(canonical_label(to), 'CLASS')}" for to in expected)
    raise DataError(
        f"the classes {list(expected)} of the set are not the classifier's, {list(labels)}; say "
        f"which it has for each with label_map= (--label-map {proposed}), or load the classifier "
        "with other names for its classes, labels= (--labels)"
    )
