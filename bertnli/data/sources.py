"""What the user names -> its tables: files, folders, archives, names of the hub, objects."""

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
from bertnli.data.corpus import Corpus, is_sentence, short_repr
from bertnli.data.formats import PACKED_SUFFIXES, SUFFIXES, suffix_format
from bertnli.data.streams import STDIN
from bertnli.data.table import ALIASES, BadRow, Row, Table, named_split
from bertnli.data.tables import object_rows
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
#: Levels of a folder in which files are looked for.
_DEPTH = 3
_COLUMNS = ("premise", "hypothesis", "label")


@dataclass(frozen=True)
class Part:
    """A table, not yet opened.

    Args:
        name: for messages and reports.
        path: of the file; None for an object.
        split: the rows to read of a table that has several splits; None for all.
        table: of an object; None for a file.
    """

    name: str
    path: str | Path | None = None
    split: str | None = None
    table: Table | None = None


def canonical_split(split: str | bool | None) -> str | None:
    """Return our name of a split; the book's True is train, its False test."""
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
        split: the split to read.
        default: the split of a source that has several, if ``split`` is None.

    Raises:
        ConfigError: there are several splits and none is named; or a file has none.
        DataError: no such file, corpus or split; or the source is not one.
        DownloadError: an archive cannot be fetched, or is damaged.
    """
    split = canonical_split(split)
    if isinstance(source, str | Path):
        return _path_parts(source, split, default)
    if isinstance(source, Corpus):
        rows = (
            dict(zip(_COLUMNS, (a, b, source.label_names[i] if i >= 0 else None), strict=True))
            for a, b, i in zip(*source, strict=True)
        )
        table = object_rows(enumerate(rows, 1), "pairs", source.source)
        table.columns = _COLUMNS
        return [Part(source.name, None, split, table)]
    if hasattr(source, "read") and not isinstance(source, Mapping):
        raise DataError(f"{type(source).__name__} is an open file; give its path instead")
    if isinstance(source, Mapping) and _is_frame(source):
        source = {name: list(column.values()) for name, column in source.items()}
    if isinstance(source, Mapping) and _is_table(source):
        source = [dict(zip(source, row, strict=True)) for row in zip(*source.values(), strict=True)]
    if isinstance(source, Mapping) and source and not is_sentence(next(iter(source.values()))):
        tables = {str(key): value for key, value in source.items()}
        return parts_of(tables[_chosen(tables, split, default)])
    if isinstance(source, list | tuple) and source and all(map(_is_source, source)):
        return [part for item in source for part in parts_of(item, split, default)]
    name, frame = type(source).__name__, object_table(source)
    if frame is not None:
        return [Part(name, None, split, frame)]
    if name == "Series":
        raise DataError("a column alone has no pairs; give the data frame that it is of")
    if not isinstance(source, Iterable) or isinstance(source, bytes | Mapping):
        raise DataError(
            f"{short_repr(source)} is no source of pairs; give a path, a name of the hub, a "
            "table of pandas, polars, pyarrow or datasets, or a list of pairs"
        )
    name = "the list of pairs"
    items = iter(source)
    first = list(islice(items, 1))
    table = object_rows(_pairs(chain(first, items)), "pairs", name)
    if first and not isinstance(first[0], Mapping):
        table.columns = _COLUMNS[: max(2, len(table.columns))]
    return [Part(name, None, split, table)]


def has_split(source: Any, split: str) -> bool:
    """Return whether a source has a split of a name, beside others."""
    try:
        parts = parts_of(source, split)
    except (ConfigError, DataError):
        return False
    return all(part.split is None for part in parts)


def default_split(source: Any, split: str) -> str | None:
    """Return the split to read if none is named; None for a source without it."""
    is_list = isinstance(source, list | tuple) and source and all(map(_is_source, source))
    for item in source if is_list else [source]:
        item, named = source_and_split(item)
        if named or not isinstance(item, str | Path | Mapping) or not has_split(item, split):
            return None
    return split


def own_dev(train: Any) -> Any:
    """Return the source with the dev split beside a training set; None if there is none."""
    source, named = source_and_split(train)
    has_dev = canonical_split(named) != "dev" and default_split(source, "dev")
    return source if has_dev and (named or default_split(source, "train")) else None


def source_and_split(source: Any) -> tuple[Any, str | None]:
    """Return the parts of ``PATH:SPLIT`` or ``NAME:SPLIT``; None as the split of another source."""
    if isinstance(source, str) and "://" not in source and not _exists(source):
        name, colon, split = source.rpartition(":")
        if colon and (name in (SAMPLE, *corpus_names()) or _exists(name)):
            return name, split
    return source, None


def _is_source(item: Any) -> bool:
    """Return whether an item of a list is a source, and not a pair."""
    if isinstance(item, str):
        return item == SAMPLE or not any(c.isspace() for c in item) or _exists(item)
    if isinstance(item, Path):
        return True
    return not isinstance(item, list | tuple | Mapping) and object_table(item) is not None


def _is_frame(source: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is what ``DataFrame.to_dict`` gives: columns of values by index."""
    columns = list(source.values())
    return all(isinstance(column, Mapping) and column for column in columns) and (
        len({tuple(column) for column in columns}) == 1
        and not any(isinstance(v, list | Mapping) for column in columns for v in column.values())
        and not any(named_split(str(name)) in SPLITS for name in source)
    )


def _is_table(source: Mapping[Any, Any]) -> bool:
    """Return whether a mapping has columns of the same length, and not splits."""
    columns = list(source.values())
    is_splits = any(named_split(str(key)) in SPLITS for key in source)
    if not columns or is_splits or not all(isinstance(column, list) for column in columns):
        return False
    cells = [cell for column in columns for cell in column[:1]]
    is_nested = any(isinstance(cell, list | tuple | Mapping) for cell in cells)
    return len({*map(len, columns)}) == 1 and not is_nested


def _exists(name: str) -> bool:
    try:
        return expanded(name, DataError).exists()
    except (DataError, OSError, ValueError):
        return False


def _pairs(items: Iterable[Any]) -> Iterator[Row]:
    """Yield the row of each item: a pair, one with a label, or an object."""
    for number, item in enumerate(items, 1):
        if isinstance(item, Mapping):
            yield number, item
        elif isinstance(item, list | tuple | np.ndarray) and len(item) in (2, 3):
            yield number, dict(zip(_COLUMNS, item, strict=False))
        else:
            yield number, BadRow(f"{short_repr(item)} is no pair, (premise, hypothesis[, label])")


def _path_parts(source: str | Path, split: str | None, default: str | None) -> list[Part]:
    if str(source) == STDIN or str(source).startswith(("/dev/stdin", "/dev/fd/")):
        name = "standard input" if str(source) == STDIN else str(source)
        return [Part(name, str(source), split)]
    path, named = source_and_split(source)
    name = str(path)
    if named is not None:
        if split not in (None, canonical_split(named)):
            raise ConfigError(f"{source} names a split, and split= (--split) another, {split}")
        split = canonical_split(named)
    if name == SAMPLE and not _exists(SAMPLE):
        folder = Path(str(resources.files("bertnli") / "data" / SAMPLE))
    elif name in corpus_names() or "://" in name:
        folder = Path(download_extract(name))
    elif not _exists(name):
        raise DataError(_missing(source))
    else:
        folder = expanded(path, DataError)
        if folder.name.lower().endswith(ARCHIVES):
            folder = Path(download_extract(folder))
        elif not folder.is_dir():
            return [Part(folder.name, folder, split)]
    title = without_secrets(name if isinstance(path, str) else folder.name)
    return _folder_parts(folder, title, split, default)


def _missing(source: str | Path) -> str:
    known = [SAMPLE, *corpus_names()]
    if is_model_name(source):
        return f"{source} is a model, and no corpus; a corpus of the hub is {' or '.join(known)}"
    if "\n" in str(source):
        return f"{short_repr(source)} is text, and no path; give the path of its file"
    return (
        f"{source}: no such file, folder or archive, nor one of the corpora {', '.join(known)}"
        f"{did_you_mean(str(source), known) or near_path(source)}"
    )


def _folder_parts(folder: Path, title: str, split: str | None, default: str | None) -> list[Part]:
    """Return the files of a folder that hold a split: one, or its shards."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(_files(folder), key=_preference):
        name = _bare(path).relative_to(folder).with_suffix("")
        groups.setdefault(str(name.with_name(_SHARD.sub("", name.name))), []).append(path)
    if not groups:
        raise DataError(
            f"{folder} has no file of pairs: looked for names that end with "
            f"{', '.join(SUFFIXES)}, perhaps packed ({', '.join(PACKED_SUFFIXES)})"
        )
    chosen = _chosen(groups, split, default, title)
    first, *others = groups[chosen]
    shards = [
        path
        for path in others
        if (path.parent, path.suffixes) == (first.parent, first.suffixes)
        and _SHARD.search(_bare(path).stem)
    ]
    split = _split_in(chosen) or split
    return [Part(f"{title}, {split}" if split else title, path) for path in [first, *shards]]


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
    """Return the order in which files with the same pairs are preferred."""
    return [*SUFFIXES].index(_bare(path).suffix.lower()), len(path.suffixes), str(path)


def _words(name: str) -> list[str]:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return [ALIASES.get(word, word) for word in words if word]


def _split_in(name: str) -> str | None:
    """Return the split that a file's name tells."""
    return next((word for word in reversed(_words(name)) if word in SPLITS), None)


def _chosen(
    groups: Mapping[str, Any], split: str | None, default: str | None, title: str = "the source"
) -> str:
    """Return the name of the group that a split means."""
    wanted = split or (default if len(groups) > 1 else None)
    if wanted is None and len(groups) == 1:
        return next(iter(groups))
    matches = [name for name in groups if wanted and wanted in (name, _split_in(name))]
    if not matches and wanted:  # such as dev_matched
        matches = [name for name in groups if {*_words(wanted)} <= {*_words(name)}]
    # Files of the folder itself are preferred to deeper ones.
    depth = min((name.count("/") for name in matches), default=0)
    matches = [name for name in matches if name.count("/") == depth or name == wanted]
    if len(matches) == 1 or (len(matches) > 1 and wanted in matches):
        return matches[0] if len(matches) == 1 else str(wanted)
    splits = {name: _split_in(name) for name in matches or groups}
    times = Counter(splits.values())
    names = [s if s and times[s] == 1 else name for name, s in splits.items()]
    written = [s if s == name else f"{s} ({name})" for s, name in zip(names, splits, strict=True)]
    listed = ", ".join(written[:12]) + (", ..." if len(written) > 12 else "")
    if matches:
        raise ConfigError(
            f"{title} has {len(matches)} sets that {wanted!r} may mean: {listed}. Name one of them "
            f"as {title}:{matches[0]} or with split= (--split), or give its file"
        )
    if split:
        near = did_you_mean(split, names)
        raise DataError(f"{title} has no split {split!r}: it has {listed}{near}")
    raise ConfigError(
        f"{title} has several splits, {listed}; name one, as {title}:{names[0]} or with split= "
        "(--split)"
    )
