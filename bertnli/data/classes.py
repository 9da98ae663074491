"""What the labels of a corpus mean: a class has a name, or somebody says which one it has.

A number means nothing by itself: of the orders in use two differ in what 1 and 2 are. It is read
only where the source (the Hub's metadata, a published layout) or the user says what it means.
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
from bertnli.data.corpus import shown
from bertnli.data.table import BadRow
from bertnli.errors import ConfigError, LabelError

#: What the field writes for each class, in lower case.
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
#: What stands where there is no label.
NO_LABELS = frozenset(("-", "", "-1", "hidden", "nan", "none", "null", "na", "n/a", "<na>"))
_ALL = (*LABELS, TWO_WAY[1])
#: The orders of the three classes in use, and who uses them.
ORDERS = {
    "the Hub's SNLI and MultiNLI": ("entailment", "neutral", "contradiction"),
    "the book": LABELS,
}
TWO_WAY_ORDERS = {"the Hub's RTE and QNLI": TWO_WAY, "WNLI": TWO_WAY[::-1]}
#: What is likely meant by words that others use as well; it is proposed, never taken.
LIKELY = {
    **dict.fromkeys(("yes", "true", "y", "t", "follows", "implies", "implication"), "entailment"),
    **dict.fromkeys(("no", "false", "f", "not", "opposes", "conflict"), "contradiction"),
    **dict.fromkeys(("maybe", "unknown", "unsure", "unrelated", "neither", "neutre"), "neutral"),
}


def raw_label(value: Any) -> str:
    """Return a label as it is written: a whole number without its point, nothing for None.

    Raises:
        BadRow: it is no text and no number.
    """
    if isinstance(value, str):
        text = value.strip()  # pandas writes whole numbers so where some are missing
        return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdecimal() else text
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | float):
        raise BadRow(f"the label is {shown.repr(value)}; a name or a number is expected")
    return str(value)


def is_spelling(raw: str) -> bool:
    """Return whether a text is a known spelling of a class, or of none, or a class's number."""
    text = raw.strip().lower()
    return text in NAMES or text in NO_LABELS or (text.isdecimal() and len(text) == 1)


def is_number(raw: str) -> bool:
    """Return whether a label is a whole number."""
    return len(raw) < 10 and raw.removeprefix("-").isdecimal()


def decide(
    counts: Mapping[str, int],
    *,
    labels: Sequence[str] | None,
    label_map: Mapping[Any, str] | None,
    numbers: Sequence[str] = (),
    source: str = "",
    column: str = "label",
    lines: Mapping[str, int] | None = None,
) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """Return the classes of a corpus, and what each label means.

    Args:
        counts: how often each label is written.
        labels: the classes that are wanted, such as a classifier's; None for the file's own.
        label_map: what is written to the class, of the user; ``"-"`` for none.
        numbers: the class of 0, of 1, and so on, where the source says it.
        source, column, lines: for messages; the last, where each label first stands.

    Returns:
        Names of the classes; and of each label the class, or None where it is no label. What is
        not in it is unknown.

    Raises:
        ConfigError: ``label_map`` maps to a class that is none of ``labels``.
        LabelError: numbers whose meaning nobody says, no label that is known, or classes that are
            not those that are wanted.
    """
    given = {raw_label(key).lower(): name for key, name in (label_map or {}).items()}
    wanted = None if labels is None else {canonical_label(name): name for name in labels}
    for to in given.values():
        if wanted is None or to == "-" or (canonical_label(to) == TWO_WAY[1] and _three(wanted)):
            continue
        if _wanted(canonical_label(to), wanted) is None:
            raise ConfigError(
                f"label_map (--label-map) maps to {to!r}, which is none of {list(labels or ())}; "
                "'-' stands for no label"
            )
    own = {canonical_label(name): name for name in _own_names(numbers, given, labels)}
    other = [to for to in given.values() if to != "-" and canonical_label(to) not in _ALL]
    if labels is None and other and not {*map(canonical_label, given.values())}.isdisjoint(_ALL):
        raise ConfigError(
            f"label_map (--label-map) maps to {other[0]!r}, which is none of {list(_ALL)}"
            f"{did_you_mean(other[0], _ALL)}; '-' stands for no label, and other classes are named "
            "with labels= (--labels)"
        )
    meaning: dict[str, str | None] = {}
    for raw in counts:
        key = raw.lower()
        if key in given:
            name: str | None = given[key]
            meaning[raw] = None if name == "-" else canonical_label(str(name))
        elif wanted is not None and canonical_label(raw) in wanted:
            meaning[raw] = canonical_label(raw)
        elif is_number(raw) and numbers and 0 <= int(raw) < len(numbers):
            meaning[raw] = _class_of(numbers[int(raw)])
        elif key in NO_LABELS:
            meaning[raw] = None
        elif canonical_label(raw) in own:
            meaning[raw] = canonical_label(raw)
        elif key in NAMES:
            meaning[raw] = NAMES[key]
    named = any(name is not None for name in meaning.values())
    if not named and any(is_number(raw) for raw in counts if raw not in meaning):
        raise LabelError(_about_numbers(counts, meaning, source, column))
    found = {name for name in meaning.values() if name is not None}
    if counts and not meaning:
        raise LabelError(
            _about_unknown(counts, labels or [*own.values()] or None, source, column, lines or {})
        )
    names, names_of = _fitting(found, own, wanted, counts, meaning, source)
    return names, {raw: None if n is None else names_of[n] for raw, n in meaning.items()}


def _class_of(name: str) -> str:
    return NAMES.get(canonical_label(name), canonical_label(name))


def _own_names(
    numbers: Sequence[str], given: Mapping[str, str], labels: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the classes that the source or the user says there are, if these are not NLI's."""
    if labels is not None:
        return ()
    named = [n for n in dict.fromkeys(numbers or given.values()) if n != "-"]
    if {*map(_class_of, named)} <= {*LABELS} or {*map(_class_of, named)} <= {*TWO_WAY}:
        return ()
    if not numbers and len(named) < 2:
        raise ConfigError(
            f"label_map (--label-map) maps to {named[0]!r} alone, which is none of {list(LABELS)}; "
            "classes of your own are two at least"
        )
    return tuple(named)


def _three(wanted: Mapping[str, str]) -> bool:
    """Return whether the wanted classes are NLI's three, as which sets of two are scored, too."""
    return {*wanted} == {*LABELS}


def _wanted(name: str, wanted: Mapping[str, str]) -> str | None:
    """Return which of the wanted classes a class is, or is a part of."""
    if name not in wanted and name in LABELS[1:] and {*wanted} == {*TWO_WAY}:
        name = TWO_WAY[1]
    return wanted.get(name)


def _fitting(
    found: set[str],
    own: Mapping[str, str],
    wanted: Mapping[str, str] | None,
    counts: Mapping[str, int],
    meaning: Mapping[str, str | None],
    source: str,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the classes' names, and the name of each class that was found."""
    same = {name: name for name in found}
    if wanted is not None:
        fitting = {name: _wanted(name, wanted) for name in found}
        if None not in fitting.values():
            return tuple(wanted.values()), {n: str(w) for n, w in fitting.items()}
    elif own and found <= {*own}:
        return tuple(own.values()), dict(own)
    if found <= {*LABELS} and wanted is None:
        return LABELS, same
    if found <= {*TWO_WAY} and (wanted is None or _three(wanted)):
        return TWO_WAY, same
    per_class = {
        name: sum(n for raw, n in counts.items() if meaning.get(raw) == name) for name in found
    }
    counted = ", ".join(f"{n} of {name}" for name, n in sorted(per_class.items()))
    expected = list(wanted.values()) if wanted else "three classes or two"
    raws = [raw for raw, name in meaning.items() if name is not None]
    raise LabelError(
        f"{source}: it has pairs of other classes than expected: {counted}; expected are "
        f"{expected}. Say what each is to be, '-' for those to leave out, with "
        f"{option(raws, list(wanted.values()) if wanted else None)}"
    )


def option(raws: Sequence[str], labels: Sequence[str] | None, taken: Collection[str] = ()) -> str:
    """Return what maps labels to classes, with CLASS where that cannot be guessed.

    Args:
        raws: labels that are not known.
        labels: the classes; None for NLI's.
        taken: classes that other labels are known as.
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
    text = ",".join(f"{raw}={name}" for raw, name in given.items())
    typed = "" if any(set(raw) & {",", "="} for raw in given) else shlex.quote(text)
    sign = "=" if text.startswith("-") else " "  # -1=... alone would be an option
    return f"label_map={dict(given)!r}" + (f" (--label-map{sign}{typed})" if typed else "")


def _likely(raw: str, names: Sequence[str]) -> str | None:
    """Return the class that a label seems to be a word for."""
    key = canonical_label(re.sub(r"^([\W\d_]|label)+", "", raw.lower()))
    guess = NAMES.get(key) or LIKELY.get(key)
    if guess is None:
        guess = next((n for n in names if n[:4] == key[:4]), None)
    if guess is not None and guess not in names and guess != "entailment":
        guess = next((n for n in names if canonical_label(n) == TWO_WAY[1]), None)
    return guess if guess in names else None


def _about_numbers(
    counts: Mapping[str, int], meaning: Mapping[str, Any], source: str, column: str
) -> str:
    raws = sorted((r for r in counts if is_number(r) and r not in meaning), key=int)
    counted = ", ".join(f"{raw} in {counts[raw]} rows" for raw in raws[:12])
    orders = TWO_WAY_ORDERS if raws == ["0", "1"] else ORDERS
    if "-1" in counts:
        counted += f", and -1 in {counts['-1']}, which means no label unless you say another"
    start = next((i for i in (0, 1) if {*map(int, raws)} <= {*range(i, i + 3)}), int(raws[0]))
    ways = {
        who: {raw: name for i, name in enumerate(names) if (raw := str(start + i)) in raws}
        for who, names in orders.items()
    }
    if "-1" in counts and raws == ["0", "1"]:
        ways["a scale"] = {"-1": LABELS[1], "0": LABELS[2], "1": LABELS[0]}
    lines = [
        _as_option(way | {raw: "CLASS" for raw in raws if raw not in way})
        + (f", as in {who}" if start == 0 else "")
        for who, way in ways.items()
    ]
    return (
        f"{source}: its classes are numbers, and nothing says what they mean: {column!r} is "
        f"{counted}. Say it; in use are: {'; '.join(lines)}"
    )


def _about_unknown(
    counts: Mapping[str, int],
    labels: Sequence[str] | None,
    source: str,
    column: str,
    lines: Mapping[str, int],
) -> str:
    counted = ", ".join(
        f"{shown.repr(raw)} in {n} rows" + (f" (line {lines[raw]} first)" if raw in lines else "")
        for raw, n in [*counts.items()][:12]
    )
    return (
        f"{source}: none of its labels is known as one of {list(labels or LABELS)}: {column!r} is "
        f"{counted}. Name another column with label= (--label-column), or say what the file "
        f"writes for each class with {option([*counts], labels)}"
    )
