"""The meaning of labels: class names in any of their spellings, or numbers with an explanation.

A number means nothing by itself: the orders in use disagree about 1 and 2. It is a class only where
the source (metadata of the Hub, a published layout) or the user says which.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from bertnli._util.hints import did_you_mean
from bertnli.bert.labels import LABELS, NOT_ENTAILMENT, TWO_WAY, canonical_label
from bertnli.data.corpus import short_repr
from bertnli.data.table import BadRow
from bertnli.errors import ConfigError, LabelError

#: The spellings of each class, in lower case.
SPELLINGS: dict[str, tuple[str, ...]] = {
    LABELS[0]: (
        *("entailment", "entails", "entail", "entailed", "e", "ent"),
        *("supports", "support", "supported"),
    ),
    LABELS[1]: (
        *("contradiction", "contradictory", "contradicts", "contradict", "contradicted"),
        *("c", "con", "refutes", "refute", "refuted"),
    ),
    LABELS[2]: (
        *("neutral", "n", "neu", "nei", "not_enough_info", "notenoughinfo"),
        *("not enough info", "not enough information"),
    ),
    TWO_WAY[1]: (
        *NOT_ENTAILMENT,
        *("not_entails", "non_entails", "nonentailment", "notentailment"),
        *("not_entailed", "not entailed", "not-entailed"),
    ),
}
NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
#: Spellings of a missing label.
NO_LABELS = frozenset(("-", "", "-1", "hidden", "nan", "none", "null", "na", "n/a", "<na>"))
_ALL = (*LABELS, TWO_WAY[1])
#: The orders of the classes that are in use.
ORDERS = {
    "the Hub's SNLI and MultiNLI": ("entailment", "neutral", "contradiction"),
    "the book": LABELS,
}
TWO_WAY_ORDERS = {"the Hub's RTE and QNLI": TWO_WAY, "WNLI": TWO_WAY[::-1]}
#: Words that probably mean a class; it is proposed in a message, never assumed.
LIKELY = {
    **dict.fromkeys(("yes", "true", "y", "t", "follows", "implies", "implication"), "entailment"),
    **dict.fromkeys(("no", "false", "f", "not", "opposes", "conflict"), "contradiction"),
    **dict.fromkeys(("maybe", "unknown", "unsure", "unrelated", "neither", "neutre"), "neutral"),
}
#: The id of a label that stands for a missing one; such rows are left out.
NO_CLASS = -1


def raw_label(value: Any) -> str:
    """Convert a label to text: an integral number without its point, a missing one to ``""``."""
    if isinstance(value, str):
        text = value.strip()  # pandas writes integers with a point where some are missing
        return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdecimal() else text
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | float):
        raise BadRow(f"the label is {short_repr(value)}; a name or a number is expected")
    return str(value)


def is_spelling(raw: str) -> bool:
    """Check whether a text is a digit, or a known spelling of a class or of a missing label."""
    text = raw.strip().lower()
    return text in NAMES or text in NO_LABELS or (text.isdecimal() and len(text) == 1)


def is_number(raw: str) -> bool:
    """Check whether a text is an integer of a few digits."""
    return len(raw) < 10 and raw.removeprefix("-").isdecimal()


def class_of_number(raw: str, numbers: Sequence[str], label_map: Mapping[Any, str] | None) -> str:
    """Return ``numbers[int(raw)]`` if the label ``raw`` is a number, else ``raw``.

    A number that is a key of ``label_map`` is unchanged, too: the map translates it later.
    """
    is_explained = numbers and is_number(raw) and 0 <= int(raw) < len(numbers)
    if not is_explained or raw in map(raw_label, label_map or ()):
        return raw
    return numbers[int(raw)]


def decide(
    counts: Mapping[str, int],
    labels: Sequence[str] | None,
    label_map: Mapping[Any, str] | None,
    numbers: Sequence[str] = (),
    source: str = "",
    column: str = "label",
    lines: Mapping[str, int] | None = None,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Decide the classes of a corpus, and the id of each label.

    Args:
        counts: dictionary of each label to its number of rows.
        labels: the wanted classes, such as a classifier's; None for the file's.
        label_map: the user's mapping of labels to classes; ``"-"`` stands for no class.
        numbers: the classes of 0, 1, ... where the source explains them.
        source, column: names of the table and of its column of labels, for messages.
        lines: dictionary of each label to its first line, for messages.

    Returns:
        The names of the classes, and a dictionary of each label to its class id, which is
        `NO_CLASS` for a label that stands for no class.
        Unknown labels are not in the mapping.

    Raises:
        ConfigError: ``label_map`` maps to an unknown class.
        LabelError: unexplained numbers, no known label, or other classes than the wanted ones.
    """
    given = {raw_label(key).lower(): name for key, name in (label_map or {}).items()}
    targets = [name for name in given.values() if name != "-"]
    schemes = _schemes(labels)
    _check_map(targets, labels, {name for _, ids in schemes for name in ids})
    names = [name for name in numbers or targets if name != "-"] if labels is None else []
    defined = {canonical_label(name): name for name in names}
    known_names = {NAMES.get(name, name) for name in defined}
    if known_names <= {*LABELS} or known_names <= {*TWO_WAY}:
        defined = {}
    else:
        schemes.insert(0, _scheme([*defined.values()]))
    meanings: dict[str, str | None] = {**dict.fromkeys(NO_LABELS), **NAMES}
    meanings |= {name: name for name in schemes[0][1]}
    meanings |= {raw: None if to == "-" else canonical_label(to) for raw, to in given.items()}
    meaning = {raw: meanings[key] for raw in counts if (key := raw.strip().lower()) in meanings}
    present = {name for name in meaning.values() if name is not None}
    unknown = sorted((raw for raw in counts if is_number(raw) and raw not in meaning), key=int)
    if unknown and not present:
        raise LabelError(_numbers_message(counts, unknown, source, column))
    if counts and not meaning:
        counted = ", ".join(
            f"{short_repr(raw)} in {n} rows" + (f" (line {lines[raw]} first)" if lines else "")
            for raw, n in [*counts.items()][:12]
        )
        raise LabelError(
            f"{source}: none of its labels is known as one of {list(schemes[0][0])}: {column!r} is "
            f"{counted}. Name another column with label= (--label-column), or say what the file "
            "writes for each class with "
            f"{proposed_map([*counts], labels or [*defined.values()] or None)}"
        )
    for classes, ids in schemes:
        if present <= ids.keys():
            return classes, {raw: NO_CLASS if n is None else ids[n] for raw, n in meaning.items()}
    per_class = ", ".join(
        f"{sum(n for raw, n in counts.items() if meaning.get(raw) == name)} of {name}"
        for name in sorted(present)
    )
    raise LabelError(
        f"{source}: it has pairs of other classes than expected: {per_class}; expected are "
        f"{list(labels) if labels else 'three classes or two'}. Say what each is to be, '-' for "
        "those to leave out, with "
        f"{proposed_map([raw for raw, name in meaning.items() if name is not None], labels)}"
    )


#: A set of classes: the names in the order of their ids, and the id of each canonical name.
_Scheme = tuple[tuple[str, ...], dict[str, int]]


def _scheme(names: Sequence[str]) -> _Scheme:
    return tuple(names), {canonical_label(name): i for i, name in enumerate(names)}


def _schemes(labels: Sequence[str] | None) -> list[_Scheme]:
    """List the sets of classes that a corpus may have; ``labels`` are the wanted ones."""
    if labels is None:
        return [_scheme(LABELS), _scheme(TWO_WAY)]
    names, ids = _scheme(labels)
    if {*ids} == {*LABELS}:  # two-way sets are scored against these, too
        return [(names, ids), _scheme(TWO_WAY)]
    if {*ids} == {*TWO_WAY}:  # neutral and contradiction are no entailment
        ids |= dict.fromkeys(LABELS[1:], ids[TWO_WAY[1]])
    return [(names, ids)]


def _check_map(targets: Sequence[str], labels: Sequence[str] | None, known: set[str]) -> None:
    """Raise ConfigError if a class of a label map, ``targets``, is not among the known ones."""
    foreign = [name for name in targets if canonical_label(name) not in known]
    if labels is None and len(foreign) == len(targets) and len({*targets}) > 1:
        return  # the user's classes are not NLI's
    if foreign:
        names = list(_ALL if labels is None else labels)
        raise ConfigError(
            f"label_map (--label-map) maps to {foreign[0]!r}, which is none of {names}"
            f"{did_you_mean(foreign[0], names)}; '-' stands for no label, and other classes are "
            "named with labels= (--labels)"
        )


def proposed_map(
    raws: Sequence[str], labels: Sequence[str] | None, taken: Collection[str] = ()
) -> str:
    """Return the text of a ``label_map`` for the user to complete.

    The word CLASS stands where the class of a label is unclear.

    Args:
        raws: the unknown labels.
        labels: the classes; None for the file's.
        taken: classes that other labels of the file have.
    """
    raws = [raw for raw in raws if raw.lower() not in NO_LABELS][:12]
    names = labels or LABELS
    if len(raws) == 2 and not taken and {*map(canonical_label, names)} == {*LABELS}:
        names = TWO_WAY
    likely = {raw: _likely(raw, names) for raw in raws}
    left = [name for name in names if name not in (*likely.values(), *taken)]
    if list(likely.values()).count(None) == len(left) == 1:
        likely = {raw: name or left[0] for raw, name in likely.items()}
    text = _as_option({raw: name or "CLASS" for raw, name in likely.items()})
    if None in likely.values():
        text += f", with one of {', '.join(names)} in the place of each CLASS"
    if labels is None and not any(likely.values()):
        text += f", or name classes of your own with labels={raws!r} (--labels {','.join(raws)})"
    return text


def _as_option(given: Mapping[str, str]) -> str:
    """Return a ``label_map`` as a Python argument and, if possible, as an option."""
    text = ",".join(f"{raw}={name}" for raw, name in given.items())
    typed = "" if any(set(raw) & {",", "="} for raw in given) else shlex.quote(text)
    sign = "=" if text.startswith("-") else " "  # -1=... alone would be an option
    return f"label_map={dict(given)!r}" + (f" (--label-map{sign}{typed})" if typed else "")


def _likely(raw: str, names: Sequence[str]) -> str | None:
    """Guess which of the class names a label stands for; return None if none is likely."""
    key = canonical_label(re.sub(r"^([\W\d_]|label)+", "", raw.lower()))
    guess = NAMES.get(key) or LIKELY.get(key)
    if guess is None:
        guess = next((name for name in names if name[:4] == key[:4]), None)
    if guess is not None and guess not in names and guess != "entailment":
        guess = next((name for name in names if canonical_label(name) == TWO_WAY[1]), None)
    return guess if guess in names else None


def _numbers_message(counts: Mapping[str, int], raws: list[str], source: str, column: str) -> str:
    """Return the error message for the numbers ``raws``, which nothing explains."""
    counted = ", ".join(f"{raw} in {counts[raw]} rows" for raw in raws[:12])
    if "-1" in counts:
        counted += f", and -1 in {counts['-1']}, which means no label unless you say another"
    orders = TWO_WAY_ORDERS if raws == ["0", "1"] else ORDERS
    start = next((i for i in (0, 1) if {*map(int, raws)} <= {*range(i, i + 3)}), int(raws[0]))
    maps = {
        f", as in {who}": {str(start + i): name for i, name in enumerate(names)}
        for who, names in orders.items()
    }
    if "-1" in counts and raws == ["0", "1"]:
        maps[""] = {"-1": LABELS[1], "0": LABELS[2], "1": LABELS[0]}
    lines = []
    for who, classes in maps.items():
        known = {raw: name for raw, name in classes.items() if raw in counts}
        line = _as_option(known | {raw: "CLASS" for raw in raws if raw not in known})
        lines.append(line + (who if start == 0 else ""))
    return (
        f"{source}: its classes are numbers, and nothing says what they mean: {column!r} is "
        f"{counted}. Say it; in use are: {'; '.join(lines)}"
    )
