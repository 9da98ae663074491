"""What the labels of a corpus mean: class names in their spellings, or numbers that are explained.

A number means nothing by itself: two of the orders in use differ in what 1 and 2 are. It is a class
only where the source (metadata of the Hub, a published layout) or the user says which.
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
SPELLINGS = {
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
#: Words that probably mean a class; such a class is proposed, never assumed.
LIKELY = {
    **dict.fromkeys(("yes", "true", "y", "t", "follows", "implies", "implication"), "entailment"),
    **dict.fromkeys(("no", "false", "f", "not", "opposes", "conflict"), "contradiction"),
    **dict.fromkeys(("maybe", "unknown", "unsure", "unrelated", "neither", "neutre"), "neutral"),
}
#: The id of a label that means none; such rows are left out.
NO_CLASS = -1


def raw_label(value: Any) -> str:
    """Return a label as text: an integral number without its point, ``""`` for a missing one."""
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
    """Return whether a text is a known spelling of a class or of none, or a digit."""
    text = raw.strip().lower()
    return text in NAMES or text in NO_LABELS or (text.isdecimal() and len(text) == 1)


def is_number(raw: str) -> bool:
    """Return whether a label is an integer."""
    return len(raw) < 10 and raw.removeprefix("-").isdecimal()


def class_of_number(raw: str, numbers: Sequence[str], label_map: Mapping[Any, str] | None) -> str:
    """Return the class name of a number that the source explains; any other label unchanged."""
    is_explained = numbers and is_number(raw) and 0 <= int(raw) < len(numbers)
    if not is_explained or raw in map(raw_label, label_map or ()):
        return raw
    return numbers[int(raw)]


def decide(
    counts: Mapping[str, int],
    *,
    labels: Sequence[str] | None,
    label_map: Mapping[Any, str] | None,
    numbers: Sequence[str] = (),
    source: str = "",
    column: str = "label",
    lines: Mapping[str, int] | None = None,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the classes of a corpus, and the id of each label.

    Args:
        counts: label to number of rows.
        labels: the wanted classes, such as a classifier's; None for the file's own.
        label_map: label to class, from the user; ``"-"`` for none.
        numbers: the classes of 0, 1, ... where the source explains them.
        source, column, lines: for messages; the last, the line where each label first stands.

    Returns:
        Names of the classes; label to id, `NO_CLASS` for one that means none. Unknown labels are
        not in it.

    Raises:
        ConfigError: ``label_map`` maps to an unknown class.
        LabelError: unexplained numbers, no known label, or other classes than the wanted ones.
    """
    given = {raw_label(key).lower(): name for key, name in (label_map or {}).items()}
    wanted = None if labels is None else {canonical_label(name): name for name in labels}
    _check_map([name for name in given.values() if name != "-"], wanted)
    own = {} if labels is not None else _own_classes(numbers or given.values())
    meaning: dict[str, str | None] = {}
    for raw in counts:
        key, name = raw.lower(), canonical_label(raw)
        if key in given:
            meaning[raw] = None if given[key] == "-" else canonical_label(given[key])
        elif name in (wanted or own):
            meaning[raw] = name
        elif key in NO_LABELS or key in NAMES:
            meaning[raw] = NAMES.get(key)
    present = {name for name in meaning.values() if name is not None}
    if not present and any(is_number(raw) for raw in counts if raw not in meaning):
        raise LabelError(_unexplained_numbers(counts, meaning, source, column))
    if counts and not meaning:
        known = list(labels or own.values() or LABELS)
        counted = ", ".join(
            f"{short_repr(raw)} in {n} rows" + (f" (line {lines[raw]} first)" if lines else "")
            for raw, n in [*counts.items()][:12]
        )
        raise LabelError(
            f"{source}: none of its labels is known as one of {known}: {column!r} is {counted}. "
            "Name another column with label= (--label-column), or say what the file writes for "
            f"each class with {proposed_map([*counts], labels or [*own.values()] or None)}"
        )
    classes = _classes(present, own, wanted)
    if classes is None:
        expected = list(wanted.values()) if wanted else "three classes or two"
        per_class = ", ".join(
            f"{sum(n for raw, n in counts.items() if meaning.get(raw) == name)} of {name}"
            for name in sorted(present)
        )
        raws = [raw for raw, name in meaning.items() if name is not None]
        raise LabelError(
            f"{source}: it has pairs of other classes than expected: {per_class}; expected are "
            f"{expected}. Say what each is to be, '-' for those to leave out, with "
            f"{proposed_map(raws, labels)}"
        )
    names, ids = classes
    return names, {raw: NO_CLASS if n is None else ids[n] for raw, n in meaning.items()}


def _check_map(targets: Sequence[str], wanted: Mapping[str, str] | None) -> None:
    """Raise ConfigError if a label map has a class that is unknown, perhaps mistyped."""
    if wanted is None:
        foreign = [name for name in targets if canonical_label(name) not in _ALL]
        if len(foreign) == len(targets) and len({*targets}) > 1:
            return  # classes of the user's own
    else:
        foreign = [name for name in targets if _wanted(canonical_label(name), wanted) is None]
        if _is_three_way(wanted):  # which two-way sets are scored against, too
            foreign = [name for name in foreign if canonical_label(name) != TWO_WAY[1]]
    if foreign:
        known = list(_ALL if wanted is None else wanted.values())
        raise ConfigError(
            f"label_map (--label-map) maps to {foreign[0]!r}, which is none of {known}"
            f"{did_you_mean(foreign[0], known)}; '-' stands for no label, and other classes are "
            "named with labels= (--labels)"
        )


def _own_classes(names: Collection[str]) -> dict[str, str]:
    """Return the classes that a source or a user defines; none if they are those of NLI."""
    own = {canonical_label(name): name for name in names if name != "-"}
    known = {NAMES.get(name, name) for name in own}
    return {} if known <= {*LABELS} or known <= {*TWO_WAY} else own


def _is_three_way(wanted: Mapping[str, str]) -> bool:
    return {*wanted} == {*LABELS}


def _wanted(name: str, wanted: Mapping[str, str]) -> str | None:
    """Return the wanted class that a class is, or is part of."""
    if name not in wanted and name in LABELS[1:] and {*wanted} == {*TWO_WAY}:
        name = TWO_WAY[1]
    return wanted.get(name)


def _classes(
    present: set[str], own: Mapping[str, str], wanted: Mapping[str, str] | None
) -> tuple[tuple[str, ...], dict[str, int]] | None:
    """Return the classes' names, and the id of each class that is present; None if none fit."""
    if wanted is not None:
        names = tuple(wanted.values())
        fitting = {name: _wanted(name, wanted) for name in present}
        if None not in fitting.values():
            return names, {name: names.index(str(to)) for name, to in fitting.items()}
    elif own and present <= {*own}:
        return tuple(own.values()), {name: i for i, name in enumerate(own)}
    for names in (LABELS, TWO_WAY):
        is_allowed = wanted is None or (names is TWO_WAY and _is_three_way(wanted))
        if is_allowed and present <= {*names}:
            return names, {name: i for i, name in enumerate(names)}
    return None


def proposed_map(
    raws: Sequence[str], labels: Sequence[str] | None, taken: Collection[str] = ()
) -> str:
    """Return the option that maps labels to classes, with CLASS for those that are unclear."""
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
    text = ",".join(f"{raw}={name}" for raw, name in given.items())
    typed = "" if any(set(raw) & {",", "="} for raw in given) else shlex.quote(text)
    sign = "=" if text.startswith("-") else " "  # -1=... alone would be an option
    return f"label_map={dict(given)!r}" + (f" (--label-map{sign}{typed})" if typed else "")


def _likely(raw: str, names: Sequence[str]) -> str | None:
    """Return the class that a label seems to be a word for."""
    key = canonical_label(re.sub(r"^([\W\d_]|label)+", "", raw.lower()))
    guess = NAMES.get(key) or LIKELY.get(key)
    if guess is None:
        guess = next((name for name in names if name[:4] == key[:4]), None)
    if guess is not None and guess not in names and guess != "entailment":
        guess = next((name for name in names if canonical_label(name) == TWO_WAY[1]), None)
    return guess if guess in names else None


def _unexplained_numbers(
    counts: Mapping[str, int], meaning: Mapping[str, Any], source: str, column: str
) -> str:
    raws = sorted((r for r in counts if is_number(r) and r not in meaning), key=int)
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
