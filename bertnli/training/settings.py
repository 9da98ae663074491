"""What a run that goes on must have the same, and what to say where it has not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bertnli.errors import ConfigError
from bertnli.training.sets import Source

#: The settings that are not compared: what they say of the sets explains why others differ.
NOTES = "notes"
SETS = ("training set", "dev set")
_VOCAB = "vocab_size"


def notes_of(sets: Mapping[str, Source | None], vocab: Any) -> dict[str, Any]:
    """Return what to say of sets and a vocabulary, beside the digests that stand for them."""
    found: dict[str, Any] = {"min_freq": getattr(vocab, "min_freq", None)}
    for name, source in sets.items():
        data = None if source is None else source.examples
        if data is not None:
            encoding = {key: getattr(data, key, None) for key in ("max_len", "truncation")}
            found[name] = {"pairs": len(data), **encoding}
    return found


def check_settings(now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise ConfigError, naming what differs, if another run's settings are not these."""
    names = [
        name for name in sorted({*now, *before} - {NOTES}) if now.get(name) != before.get(name)
    ]
    if names:
        raise ConfigError(
            f"the run cannot go on with other settings: {'; '.join(_said(names, now, before))}. "
            "Give the same as before, or start a new run in another folder"
        )


def _said(names: list[str], now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to say of each setting that differs."""
    notes, old = now.get(NOTES) or {}, before.get(NOTES) or {}
    for name in names:
        value, earlier = now.get(name), before.get(name)
        if name == _VOCAB:
            yield (
                f"the vocabulary has {value:,} tokens, and had {earlier:,}: "
                f"{_why(notes.get('min_freq'), old.get('min_freq'))}"
            )
        elif name not in SETS:
            yield f"{name} is {value!r}, and was {earlier!r}"
        elif value is None or earlier is None:
            yield f"there is {'no' if value is None else 'a'} {name}, and there was {_other(value)}"
        elif _VOCAB not in names or _differ(notes.get(name), old.get(name)):
            # Of the same pairs the digest differs since the ids do, and says nothing more.
            yield f"the {name} is another: {_of_set(notes.get(name), old.get(name))}"


def _other(value: Any) -> str:
    return "one" if value is None else "none"


def _why(min_freq: int | None, earlier: int | None) -> str:
    if min_freq != earlier and earlier is not None:
        return f"min_freq (--min-freq) is {min_freq}, and was {earlier}"
    if earlier is not None:
        return "the training data changed"
    return "min_freq (--min-freq) or the training data changed"


def _differ(notes: dict[str, Any] | None, old: dict[str, Any] | None) -> list[str]:
    """Return in words what is known to differ of a set."""
    if not notes or not old:
        return []
    found = []
    if notes["pairs"] != old["pairs"]:
        what = "pairs" if notes["truncation"] else "examples"  # of a set to pretrain on
        found.append(f"it has {notes['pairs']:,} {what}, and had {old['pairs']:,}")
    for key in ("max_len", "truncation"):
        if notes[key] != old[key]:
            option = f"--{key.replace('_', '-')}"
            found.append(f"its {key} ({option}) is {notes[key]}, and was {old[key]}")
    return found


def _of_set(notes: dict[str, Any] | None, old: dict[str, Any] | None) -> str:
    known = ", ".join(_differ(notes, old))
    return known or "other pairs, labels or order, or pairs that are encoded in another way"
