"""The tables of a source: of files, folders, archives, names of the hub, and Python objects."""

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
from bertnli.data.formats import PACKED_SUFFIXES, SUFFIXES, bare, suffix_format
from bertnli.data.streams import is_pipe, stream_name
from bertnli.data.table import ALIASES, BadRow, Row, Table, named_split
from bertnli.data.tables import object_rows
from bertnli.errors import ConfigError, DataError, without_secrets
from bertnli.hub.archives import ADDED
from bertnli.hub.catalogue import corpus_names, download_extract, is_model_name

SPLITS = ("train", "dev", "test")
SAMPLE = "sample"
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", *(f".tar{end}" for end in PACKED_SUFFIXES))
#: The end of the name of a file that holds a part of a split, as the Hub writes it.
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
#: Files of a folder that hold no pairs.
_NO_DATA = re.compile(r"(?i)readme|licen[sc]e|dataset_info|dataset_dict|state\.json|cache-|\.|_")
#: Levels of a folder in which files are looked for.
_DEPTH = 3
#: The columns of a list of pairs.
COLUMNS = ("premise", "hypothesis", "label")


@dataclass(frozen=True)
class Part:
    """A table that is not yet opened: a file's, or that of a Python object such as a data frame.

    Args:
        name: the name for messages and reports.
        path: the path of the file; None for a Python object.
        split: the rows to read, by a column that names each row's split; None for all rows.
        table: the table of a Python object; None for a file.
    """

    name: str
    path: str | Path | None = None
    split: str | None = None
    table: Table | None = None

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file, and not a pipe or an object."""
        return self.path is not None and Path(self.path).is_file()


def canonical_split(split: str | bool | None) -> str | None:
    """Translate a split to our name for it; the book's True is train, its False test."""
    if isinstance(split, bool):
        return "train" if split else "test"
    if split is not None and (not isinstance(split, str) or not split):
        raise ConfigError(f"split is {split!r}; it is a name such as {', '.join(SPLITS)}")
    return None if split is None else named_split(split)


def parts_of(
    source: Any, split: str | bool | None = None, default: str | None = None
) -> list[Part]:
    """List the tables of a source.

    Args:
        source: see `bertnli.read`.
        split: the split to read.
        default: the split of a source that has several, if ``split`` is None.

    Raises:
        ConfigError: the source has several splits, or a name that fits several, and none is chosen.
        DataError: no such file, corpus or split; or this is no source.
        DownloadError: an archive cannot be fetched, or is damaged.
    """
    split = canonical_split(split)
    if isinstance(source, str | Path):
        return _path_parts(source, split, default)
    if isinstance(source, Corpus):
        names = [*source.label_names, None]  # the label -1 is the last
        premises, hypotheses, ids = source
        rows = zip(premises, hypotheses, (names[i] for i in ids), strict=True)
        table = object_rows(_pairs(rows), "pairs", source.source)
        table.columns = COLUMNS
        return [Part(source.name, None, split, table)]
    if isinstance(source, Mapping):
        columns = _rows_of_columns(source)
        if columns is None and source and not is_sentence(next(iter(source.values()))):
            tables = {str(key): value for key, value in source.items()}
            return parts_of(tables[_chosen(tables, split, default)])
        source = source if columns is None else columns
    elif hasattr(source, "read"):
        raise DataError(f"{type(source).__name__} is an open file; give its path instead")
    if _is_list_of_sources(source):
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
    name, items = "the list of pairs", iter(source)
    first = list(islice(items, 1))
    table = object_rows(_pairs(chain(first, items)), "pairs", name)
    if first and not isinstance(first[0], Mapping):
        table.columns = COLUMNS[: max(2, len(table.columns))]
    return [Part(name, None, split, table)]


def has_split(source: Any, split: str) -> bool:
    """Return whether a source has several splits, and ``split`` is one of them."""
    try:
        return all(part.split is None for part in parts_of(source, split))
    except (ConfigError, DataError):
        return False


def default_split(source: Any, split: str) -> str | None:
    """Return ``split`` if the source has it beside other splits and names none itself, else None.

    A list of sources must fulfil this for each of them.
    """
    for item in source if _is_list_of_sources(source) else [source]:
        item, named = source_and_split(item)
        if named or not isinstance(item, str | Path | Mapping) or not has_split(item, split):
            return None
    return split


def own_dev(train: Any) -> Any:
    """Return the source of a training set's own dev split, or None.

    The training set is the source, or its split "train".
    """
    source, named = source_and_split(train)
    has_dev = canonical_split(named) != "dev" and default_split(source, "dev")
    return source if has_dev and (named or default_split(source, "train")) else None


def source_and_split(source: Any) -> tuple[Any, str | None]:
    """Split the text ``PATH:SPLIT`` or ``NAME:SPLIT``; other sources are returned with None."""
    if isinstance(source, str) and "://" not in source and not _exists(source):
        name, colon, split = source.rpartition(":")
        if colon and (name in (SAMPLE, *corpus_names()) or _exists(name)):
            return name, split
    return source, None


def _is_list_of_sources(source: Any) -> bool:
    """Return whether this is a list of sources, rather than a list of pairs."""

    def is_source(item: Any) -> bool:
        if isinstance(item, str):
            return item == SAMPLE or not any(c.isspace() for c in item) or _exists(item)
        is_row = isinstance(item, list | tuple | Mapping)
        return isinstance(item, Path) or (not is_row and object_table(item) is not None)

    return isinstance(source, list | tuple) and bool(source) and all(map(is_source, source))


def _rows_of_columns(source: Mapping[Any, Any]) -> list[dict[Any, Any]] | None:
    """Convert a dictionary of columns to rows.

    Return None if the dictionary is a single row or has a split in each value. A column is a list,
    or a dictionary of the index to values, as from ``DataFrame.to_dict``.

    A column is a list, or a mapping of the index to values, as by ``DataFrame.to_dict``.
    """
    columns = list(source.values())
    is_splits = any(named_split(str(key)) in SPLITS for key in source)
    if all(isinstance(c, Mapping) and c for c in columns) and len({*map(tuple, columns)}) == 1:
        columns = [list(column.values()) for column in columns]
    if is_splits or not columns or not all(isinstance(column, list) for column in columns):
        return None
    is_nested = any(isinstance(v, list | tuple | Mapping) for c in columns for v in c[:1])
    if is_nested or len({*map(len, columns)}) > 1:
        return None
    return [dict(zip(source, row, strict=True)) for row in zip(*columns, strict=True)]


def _exists(name: str) -> bool:
    try:
        return expanded(name, DataError).exists()
    except (DataError, OSError, ValueError):
        return False


def _pairs(items: Iterable[Any]) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        if isinstance(item, Mapping):
            yield number, dict(zip(item, map(_plain, item.values()), strict=True))
        elif isinstance(item, list | tuple | np.ndarray) and len(item) in (2, 3):
            yield number, dict(zip(COLUMNS, map(_plain, item), strict=False))
        else:
            yield number, BadRow(f"{short_repr(item)} is no pair, (premise, hypothesis[, label])")


def _plain(value: Any) -> Any:
    """Convert a scalar of NumPy, a string for instance, to Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _path_parts(source: str | Path, split: str | None, default: str | None) -> list[Part]:
    if is_pipe(source):
        return [Part(stream_name(source), str(source), split)]
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
    """Return the file of a folder that holds a split, or the shards of that file.

    ``title`` names the folder in messages.
    """
    groups: dict[str, list[Path]] = {}

    def preference(path: Path) -> tuple[int, int, str]:  # of files with the same pairs
        return [*SUFFIXES].index(bare(path).suffix.lower()), len(path.suffixes), str(path)

    for path in sorted(_files(folder), key=preference):
        name = bare(path).relative_to(folder).with_suffix("")
        groups.setdefault(str(name.with_name(_SHARD.sub("", name.name))), []).append(path)
    if not groups:
        raise DataError(
            f"{folder} has no file of pairs: looked for names that end with "
            f"{', '.join(SUFFIXES)}, perhaps packed ({', '.join(PACKED_SUFFIXES)})"
        )
    chosen = _chosen(groups, split, default, title)
    first, *others = groups[chosen]
    same = [p for p in others if (p.parent, p.suffixes) == (first.parent, first.suffixes)]
    shards = [path for path in same if _SHARD.search(bare(path).stem)]
    split = _split_in(chosen) or split
    return [Part(f"{title}, {split}" if split else title, path) for path in [first, *shards]]


def _files(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield the files of a folder, and of ``depth`` levels below it, that may be tables."""
    for path in sorted(folder.iterdir()):
        if path.name in ADDED or _NO_DATA.match(path.name):
            continue
        if path.is_dir():
            yield from _files(path, depth - 1) if depth else ()
        elif suffix_format(path) is not None:
            yield path


def _words(name: str) -> list[str]:
    """Return the lower-case words of a file's name; those that mean a split become our names."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return [ALIASES.get(word, word) for word in words if word]


def _split_in(name: str) -> str | None:
    return next((word for word in reversed(_words(name)) if word in SPLITS), None)


def _chosen(
    groups: Mapping[str, Any], split: str | None, default: str | None, title: str = "the source"
) -> str:
    """Choose the group of files or tables that holds a split; ``title`` is for messages.

    Args:
        groups: dictionary of each group's name to its files or table.
        split, default: see `parts_of`.
    """
    wanted = split or (default if len(groups) > 1 else None)
    if wanted is None and len(groups) == 1:
        return next(iter(groups))
    matches = [name for name in groups if wanted and wanted in (name, _split_in(name))]
    if not matches and wanted:  # such as dev_matched
        matches = [name for name in groups if {*_words(wanted)} <= {*_words(name)}]
    # Files of the folder itself are preferred to deeper ones.
    depth = min((name.count("/") for name in matches), default=0)
    matches = [name for name in matches if name.count("/") == depth or name == wanted]
    if wanted in matches or len(matches) == 1:
        return wanted if wanted in matches else matches[0]
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
