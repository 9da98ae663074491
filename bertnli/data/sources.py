"""What a user names -> the tables that it means: files, folders, archives, corpora, objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.files import expanded
from bertnli._util.hints import did_you_mean, near_path
from bertnli.data.arrow import object_table
from bertnli.data.corpus import Corpus, is_sentence, shown
from bertnli.data.formats import PACKED_SUFFIXES, SUFFIXES, suffix_format
from bertnli.data.streams import STDIN
from bertnli.data.table import ALIASES, BadRow, Row, Table, named_split
from bertnli.data.tables import table_of
from bertnli.errors import ConfigError, DataError, without_secrets
from bertnli.hub.archives import ADDED
from bertnli.hub.catalogue import corpus_names, download_extract, is_model_name

SPLITS = ("train", "dev", "test")
SAMPLE = "sample"
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", *(f".tar{end}" for end in PACKED_SUFFIXES))
#: One of several files that hold a split together, as the Hub names them.
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
#: Files of a folder that hold no pairs.
_NO_DATA = re.compile(r"(?i)readme|licen[sc]e|dataset_info|dataset_dict|state\.json|cache-|\.|_")
#: How deep in a folder its files are looked for.
_DEPTH = 3


@dataclass(frozen=True)
class Part:
    """A table, not yet opened.

    Args:
        name: for messages and reports.
        path: of the file; None for an object.
        split: what of the table to take, where it has parts of its own; None for all.
        table: of an object; None for a file.
    """

    name: str
    path: str | Path | None = None
    split: str | None = None
    table: Table | None = None


def canonical_split(split: str | bool | None) -> str | None:
    """Return a split by the name that it has here; the book's True is train, its False test."""
    if isinstance(split, bool):
        return "train" if split else "test"
    if split is not None and (not isinstance(split, str) or not split):
        raise ConfigError(f"split is {split!r}; it is a name such as {', '.join(SPLITS)}")
    return None if split is None else named_split(split)


def parts_of(
    source: Any, split: str | bool | None = None, default: str | None = None
) -> list[Part]:
    """Return the tables of a source.

    Args:
        source: see `bertnli.read`.
        split: what of it to take.
        default: what to take of a source that has splits, where nobody says.

    Raises:
        ConfigError: there are several splits, and nobody says which; or a file has none.
        DataError: there is no such file, corpus or split; or the source is of no kind that is read.
        DownloadError: an archive cannot be fetched, or is damaged.
    """
    split = canonical_split(split)
    if isinstance(source, str | Path):
        return _named_parts(source, split, default)
    if isinstance(source, Corpus):
        rows = (
            {"premise": a, "hypothesis": b, "label": None if i < 0 else source.label_names[i]}
            for a, b, i in zip(*source, strict=True)
        )
        corpus = table_of(enumerate(rows, 1), "pairs", source.source)
        corpus.columns = ("premise", "hypothesis", "label")
        return [Part(source.name, None, split, corpus)]
    if hasattr(source, "read") and not isinstance(source, Mapping):
        raise DataError(f"{type(source).__name__} is an open file; give its path instead")
    if isinstance(source, Mapping) and source and _is_frame(source):
        source = {key: list(column.values()) for key, column in source.items()}
    if isinstance(source, Mapping) and source and _is_table(source):
        source = [dict(zip(source, row, strict=True)) for row in zip(*source.values(), strict=True)]
    if isinstance(source, Mapping) and source and not is_sentence(next(iter(source.values()))):
        chosen = _chosen({str(key): value for key, value in source.items()}, split, default)
        return parts_of(source[chosen])
    if isinstance(source, list | tuple) and source and all(map(_is_source, source)):
        return [part for one in source for part in parts_of(one, split, default)]
    table = object_table(source)
    name = type(source).__name__
    if table is None:
        if not isinstance(source, Iterable) or isinstance(source, bytes | Mapping):
            raise DataError(
                f"{shown.repr(source)} is no source of pairs; give a path, a name of the hub, a "
                "table of pandas, polars, pyarrow or datasets, or a list of pairs"
            )
        pairs = iter(source)
        first = list(islice(pairs, 1))
        if type(source).__name__ == "Series":
            raise DataError("a column alone has no pairs; give the data frame that it is of")
        table = table_of(_pairs(chain(first, pairs)), "pairs", "the list of pairs")
        if first and not isinstance(first[0], Mapping):
            table.columns = ("premise", "hypothesis", "label")[: max(2, len(table.columns))]
        name = "the list of pairs"
    return [Part(name, None, split, table)]


def has_split(source: Any, split: str) -> bool:
    """Return whether a source has a split of a name, beside others."""
    try:
        parts = parts_of(source, split)
    except (ConfigError, DataError):
        return False
    return all(part.split is None for part in parts)


def default_split(source: Any, split: str) -> str | None:
    """Return a split that is to be read where nobody says which; None of a source without it."""
    is_list = isinstance(source, list | tuple) and source and all(map(_is_source, source))
    for one in source if is_list else [source]:
        whole, named = source_and_split(one)
        if named or not isinstance(whole, str | Path | Mapping) or not has_split(whole, split):
            return None
    return split


def own_dev(train: Any) -> Any:
    """Return the source with the dev split beside a training set; None if there is none."""
    whole, named = source_and_split(train)
    has_dev = canonical_split(named) != "dev" and default_split(whole, "dev")
    return whole if has_dev and (named or default_split(whole, "train")) else None


def source_and_split(source: Any) -> tuple[Any, str | None]:
    """Return what ``PATH:SPLIT`` or ``NAME:SPLIT`` names; no split where there is none."""
    if isinstance(source, str) and "://" not in source and not _exists(source):
        name, colon, split = source.rpartition(":")
        if colon and (name in (SAMPLE, *corpus_names()) or _exists(name)):
            return name, split
    return source, None


def _is_source(one: Any) -> bool:
    """Return whether an item of a list is a source of its own, and not a pair."""
    if isinstance(one, Path):
        return True
    if isinstance(one, str):
        return one == SAMPLE or not any(c.isspace() for c in one) or _exists(one)
    return not isinstance(one, list | tuple | Mapping) and object_table(one) is not None


def _is_table(source: Mapping[Any, Any]) -> bool:
    """Return whether a mapping has columns of as many values each, and not splits."""
    columns = list(source.values())
    if any(named_split(str(key)) in SPLITS for key in source):
        return False
    return all(isinstance(one, list) for one in columns) and (
        len({len(one) for one in columns}) == 1
        and not any(isinstance(v, list | tuple | Mapping) for one in columns for v in one[:1])
    )


def _is_frame(source: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is what ``DataFrame.to_dict`` gives: columns of values by index."""
    columns = list(source.values())
    return all(isinstance(one, Mapping) and one for one in columns) and (
        len({tuple(one) for one in columns}) == 1
        and not any(isinstance(v, list | Mapping) for one in columns for v in one.values())
        and not any(named_split(str(key)) in SPLITS for key in source)
    )


def _exists(name: str) -> bool:
    try:
        return expanded(name, DataError).exists()
    except (DataError, OSError, ValueError):
        return False


def _pairs(items: Iterable[Any]) -> Iterator[Row]:
    """Yield number and fields of each item: a pair, one with a label, or an object."""
    for number, item in enumerate(items, 1):
        if isinstance(item, Mapping):
            yield number, item
        elif isinstance(item, list | tuple | np.ndarray) and len(item) in (2, 3):
            yield number, dict(zip(("premise", "hypothesis", "label"), item, strict=False))
        else:
            yield number, BadRow(f"{shown.repr(item)} is no pair, (premise, hypothesis[, label])")


def _named_parts(source: str | Path, split: str | None, default: str | None) -> list[Part]:
    if str(source) == STDIN or str(source).startswith(("/dev/stdin", "/dev/fd/")):
        name = "standard input" if str(source) == STDIN else str(source)
        return [Part(name, str(source), split)]
    name, own = source_and_split(source)
    if own is not None:
        if split not in (None, canonical_split(own)):
            raise ConfigError(f"{source} names a split, and split= (--split) another, {split}")
        split = canonical_split(own)
    if name == SAMPLE and not _exists(SAMPLE):
        folder: Path = Path(str(resources.files("bertnli") / "data" / SAMPLE))
    elif name in corpus_names() or "://" in str(name):
        folder = Path(download_extract(str(name)))
    else:
        if not _exists(str(name)):
            raise DataError(_missing(source))
        folder = expanded(name, DataError)
        if folder.name.lower().endswith(ARCHIVES):
            folder = Path(download_extract(folder))
        elif not folder.is_dir():
            return [Part(folder.name, folder, split)]
    label = without_secrets(str(name if isinstance(name, str) else folder.name))
    return _parts_in(folder, label, split, default)


def _missing(source: str | Path) -> str:
    known = [SAMPLE, *corpus_names()]
    if is_model_name(source):
        return f"{source} is a model, and no corpus; a corpus of the hub is {' or '.join(known)}"
    if "\n" in str(source):
        return f"{shown.repr(source)} is text, and no path; give the path of its file"
    return (
        f"{source}: no such file, folder or archive, nor one of the corpora {', '.join(known)}"
        f"{did_you_mean(str(source), known) or near_path(source)}"
    )


def _parts_in(folder: Path, name: str, split: str | None, default: str | None) -> list[Part]:
    """Return the files of a folder that hold a split."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(_files(folder), key=_preference):
        groups.setdefault(_stem(folder, path), []).append(path)
    if not groups:
        raise DataError(
            f"{folder} has no file of pairs: looked for names that end with "
            f"{', '.join(SUFFIXES)}, perhaps packed ({', '.join(PACKED_SUFFIXES)})"
        )
    chosen = _chosen(groups, split, default, name)
    shown_split = _split_in(chosen) or split
    first, *others = groups[chosen]
    shards = [
        path
        for path in others
        if path.parent == first.parent
        and path.suffixes == first.suffixes
        and _SHARD.search(_bare(path).stem)
    ]
    label = f"{name}, {shown_split}" if shown_split else name
    return [Part(label, path) for path in [first, *shards]]


def _files(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in ADDED or _NO_DATA.match(path.name):
            continue
        if path.is_dir():
            if depth:
                yield from _files(path, depth - 1)
        elif suffix_format(path) is not None:
            yield path


def _bare(path: Path) -> Path:
    """Return a path without the endings of packed files."""
    while path.suffix.lower() in PACKED_SUFFIXES:
        path = path.with_suffix("")
    return path


def _preference(path: Path) -> tuple[int, int, str]:
    """Return by what, of files that hold the same, one is taken before others."""
    return [*SUFFIXES].index(_bare(path).suffix.lower()), len(path.suffixes), str(path)


def _stem(folder: Path, path: Path) -> str:
    """Return what is the same of all files with the same pairs: formats, and shards."""
    inner = _bare(path).relative_to(folder).with_suffix("")
    return str(inner.with_name(_SHARD.sub("", inner.name)))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _split_in(name: str) -> str | None:
    """Return the split that a name of a file tells."""
    return next((ALIASES[word] for word in reversed(_words(name)) if word in ALIASES), None)


def _chosen(
    groups: Mapping[str, Any], split: str | None, default: str | None, name: str = "the source"
) -> str:
    """Return the name of the group that a split means."""
    wanted = split or (default if len(groups) > 1 else None)
    if wanted is None:
        if len(groups) == 1:
            return next(iter(groups))
        wanted = ""
    exact = [one for one in groups if one == wanted or _split_in(one) == wanted]
    if not exact and wanted:  # such as dev_matched
        words = [ALIASES.get(word, word) for word in _words(wanted)]
        exact = [
            one for one in groups if {*words} <= {ALIASES.get(word, word) for word in _words(one)}
        ]
    if len(exact) > 1 and wanted in exact:
        return wanted
    # What lies in the folder itself goes before what lies deeper.
    exact = [one for one in exact if one.count("/") == min(o.count("/") for o in exact)]
    if len(exact) == 1:
        return exact[0]
    found = {one: _split_in(one) for one in exact or groups}
    times = Counter(found.values())
    names = [s if s and times[s] == 1 else one for one, s in found.items()]
    written = [s if s == one else f"{s} ({one})" for s, one in zip(names, found, strict=True)]
    listed = ", ".join(written[:12]) + (", ..." if len(written) > 12 else "")
    if len(exact) > 1:
        raise ConfigError(
            f"{name} has {len(exact)} sets that {wanted!r} may mean: {listed}. Name one of them as "
            f"{name}:{exact[0]} or with split= (--split), or give its file"
        )
    if split:
        near = did_you_mean(split, names)
        raise DataError(f"{name} has no split {split!r}: it has {listed}{near}")
    raise ConfigError(
        f"{name} has several splits, {listed}; name one, as {name}:{names[0]} or with split= "
        "(--split)"
    )
