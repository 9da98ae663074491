"""The class names and their order: labels are names first, ids second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bertnli.errors import DataError

#: The classes in the book's order: the id of a label is its place here.
LABELS = ("entailment", "contradiction", "neutral")


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
