"""The corpora that commands read: the shipped sample, SNLI's files, anybody's table."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.cli.parser import comma_list
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.layouts import LabelledSet, read_labelled
from bertnli.data.snli import SPLITS, find_split, read_pairs, read_sample, read_snli
from bertnli.errors import ConfigError, DataError, without_secrets
from bertnli.files import expanded
from bertnli.hints import did_you_mean, near_path
from bertnli.hub import corpus_names, download_extract
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

SAMPLE = "sample"
DATA_HELP = (
    "sample (the small corpus that comes with bertnli), SNLI (downloaded once), or the folder or "
    "archive of SNLI's official files"
)


#: The share of a pair's tokens that a model may not know without a warning.
MANY_UNKNOWN = 1 / 3


def add_column_options(group: Any, format: str = "--format") -> None:
    """Add --format (or another name for it), --premise-column and --hypothesis-column."""
    group.add_argument(
        format,
        dest="table_format",
        choices=("tsv", "csv", "jsonl"),
        help="format of the file (default: by its name)",
    )
    for option, column in (("premise", "sentence1"), ("hypothesis", "sentence2")):
        group.add_argument(
            f"--{option}-column",
            metavar="NAME",
            help=f"column, or key, of the {option} (default: {column})",
        )


def add_label_options(group: Any) -> None:
    """Add --label-column and --label-map."""
    group.add_argument(
        "--label-column", metavar="NAME", help="column, or key, of the class (default: gold_label)"
    )
    group.add_argument(
        "--label-map",
        type=_label_map,
        metavar="MAP",
        help="what the file writes for each class, such as 0=entailment,1=contradiction,2=neutral "
        "(default: the classes' names)",
    )


def add_skip_option(parser: argparse.ArgumentParser) -> None:
    """Add --skip-bad-rows."""
    parser.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="leave malformed rows out and count them (default: they are an error)",
    )


@comma_list
def _label_map(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in text.split(","):
        key, sign, value = (part.strip() for part in item.partition("="))
        if not (key and sign and value):
            raise argparse.ArgumentTypeError(f"{text!r} is not like 0=entailment,1=neutral")
        if found.setdefault(key, value) != value:
            raise argparse.ArgumentTypeError(f"{key} is to be both {found[key]} and {value}")
    return found


def table_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `read_pairs` that were given as options."""
    given = {
        "format": args.table_format,
        "premise": args.premise_column,
        "hypothesis": args.hypothesis_column,
        "label": args.label_column,
        "label_map": args.label_map,
    }
    return {name: value for name, value in given.items() if value is not None}


def read_table(args: argparse.Namespace, path: str, labels: Sequence[str], **more: Any) -> Corpus:
    """Read a user's own table as the options say."""
    return read_pairs(path, labels=labels, on_error=_on_error(args), **table_options(args), **more)


def read_split(args: argparse.Namespace, split: str) -> Corpus:
    """Read a split of what --data means.

    Raises:
        ConfigError: options that describe a table were given too.
    """
    _check_no_table_options(args)
    return _read_corpus(args, args.data, split)


def _read_corpus(args: argparse.Namespace, name: str, split: str) -> Corpus:
    if name == SAMPLE:
        return read_sample(split)
    return read_snli(_folder_of(name), split, on_error=_on_error(args))


def _folder_of(name: str) -> str:
    """Return the folder of SNLI's official files that --data names.

    Raises:
        DataError: it is neither the name of a corpus nor a path.
    """
    known = [SAMPLE, *corpus_names()]
    if name not in known and "://" not in name and not expanded(name, DataError).exists():
        raise DataError(
            f"{name!r} is no corpus: neither one of {', '.join(known)}, nor a folder or archive of "
            f"SNLI's official files{did_you_mean(name, known) or near_path(name)}"
        )
    return download_extract(name)


def encode_split(
    args: argparse.Namespace, split: str, encoding: PairEncoding, vocab: Vocab
) -> PairDataset:
    """Return a split of what --data means as ids; those of SNLI's files are kept beside them.

    Raises:
        ConfigError: as `read_split`.
    """
    if args.data == SAMPLE:
        corpus = read_split(args, split)
        return encoded(corpus, encoding, vocab)
    _check_no_table_options(args)
    return PairDataset.from_snli(
        _folder_of(args.data),
        split,
        encoding.max_len,
        vocab,
        truncation=encoding.truncation,
        on_error=_on_error(args),
        verbose=False,
    )


def encoded(corpus: Corpus, encoding: PairEncoding, vocab: Vocab) -> PairDataset:
    """Return a corpus as ids."""
    return PairDataset(
        corpus, encoding.max_len, vocab, truncation=encoding.truncation, verbose=False
    )


def _check_no_table_options(args: argparse.Namespace) -> None:
    if table_options(args):
        raise ConfigError(
            "options on formats, columns and labels describe a table of your own, and --data names "
            "a corpus whose form is known; leave them out, or give the table's file in its place"
        )


def _on_error(args: argparse.Namespace) -> str:
    return "skip" if args.skip_bad_rows else "raise"


def add_labelled_source(
    parser: argparse.ArgumentParser,
    required: bool,
    format: str = "--format",
    several: bool = False,
) -> None:
    """Add --data, --split, --file and what describes the file: labelled pairs to score on."""
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument("--data", metavar="CORPUS", help=DATA_HELP)
    if several:
        source.add_argument(
            "--file",
            metavar="FILE",
            nargs="+",
            help="files of SNLI, MultiNLI, SICK or HANS, which are known by their columns, or TSV, "
            "CSV or JSONL files of your own; give the checkpoints before this option",
        )
    else:
        source.add_argument("--file", metavar="FILE", help="a TSV, CSV or JSONL file of your own")
    parser.add_argument("--split", choices=SPLITS, help="of --data (default: dev)")
    table = parser.add_argument_group("file of your own")
    add_column_options(table, format)
    add_label_options(table)
    add_skip_option(parser)


def encode_labelled(
    args: argparse.Namespace, labels: Sequence[str], encoding: PairEncoding, vocab: Vocab
) -> PairDataset:
    """Return the pairs that `add_labelled_source`'s options name, as ids.

    Raises:
        ConfigError: options that do not go together.
    """
    if args.file is not None:
        if args.split is not None:
            raise ConfigError("--split is for --data; a file has no splits")
        corpus = read_table(args, args.file, labels)
        return encoded(corpus, encoding, vocab)
    return encode_split(args, split_of(args), encoding, vocab)


def split_of(args: argparse.Namespace) -> str:
    """Return the split of --data to score on; the test split is worth a note."""
    split: str = args.split or "dev"
    if split == "test":
        print(
            "note: the test split is meant to be used once, when every choice has been made",
            file=sys.stderr,
        )
    return split


def read_sets(args: argparse.Namespace, labels: Sequence[str]) -> list[LabelledSet]:
    """Return the pairs that `add_labelled_source`'s options name, of several files each.

    A file is called by its name, or by its path where another has the same name.

    Raises:
        ConfigError: options that do not go together.
    """
    if args.file is not None:
        found = [_read_file(args, path, labels, args.split) for path in args.file]
        times = Counter(one.name for one in found)  # of files in different folders
        return [
            replace(one, name=path) if times[one.name] > 1 else one
            for one, path in zip(found, args.file, strict=True)
        ]
    split = split_of(args)
    return [
        LabelledSet(
            f"{without_secrets(args.data)}, {split}", read_split(args, split), _layout(args.data)
        )
    ]


def read_named(args: argparse.Namespace, name: str, labels: Sequence[str]) -> LabelledSet:
    """Return the pairs that an option names in one word.

    Args:
        name: a file; a split of --data; or CORPUS:SPLIT, such as ``SNLI:train``.
        labels: the classifier's classes, for a file of the user's own.

    Raises:
        ConfigError: it names nothing.
    """
    if Path(name).is_file():
        return _read_file(args, name, labels, None)
    corpus, colon, split = name.rpartition(":")
    if not colon:
        corpus = args.data
    if corpus is None or split not in SPLITS:
        raise ConfigError(
            f"{name}: no such file; give a file of labelled pairs, a split of --data "
            f"({', '.join(SPLITS)}), or CORPUS:SPLIT such as SNLI:train"
            f"{did_you_mean(split, SPLITS) or near_path(name)}"
        )
    return LabelledSet(
        f"{without_secrets(corpus)}, {split}", _read_corpus(args, corpus, split), _layout(corpus)
    )


def read_baseline(args: argparse.Namespace, labels: Sequence[str]) -> Corpus | None:
    """Return the pairs that --baseline-on names, or the train split of --data; None without one."""
    if args.baseline_on is not None:
        return read_named(args, args.baseline_on, labels).corpus
    if args.data is None:
        return None
    if args.data != SAMPLE:
        try:
            find_split(_folder_of(args.data), "train")
        except DataError:
            return None
    return read_split(args, "train")


def _read_file(
    args: argparse.Namespace, path: str, labels: Sequence[str], split: str | None
) -> LabelledSet:
    on_error = _on_error(args)
    return read_labelled(path, labels=labels, split=split, on_error=on_error, **table_options(args))


def _layout(corpus: str) -> str:
    return SAMPLE if corpus == SAMPLE else "SNLI"


def describe(corpus: Corpus | PairDataset) -> str:
    """Return in one line how many pairs a corpus has, from where, and what was left out."""
    skipped = ", ".join(f"{n} ({reason})" for reason, n in corpus.skipped.items())
    return f"{len(corpus.labels)} pairs from {corpus.source}" + (
        f"; rows left out: {skipped}" if skipped else ""
    )


def describe_encoding(dataset: PairDataset) -> str:
    """Return in one line, or two, how many pairs were cut, and how many a model cannot read."""
    cut = (
        f"{int(dataset.is_cut.sum())} of {len(dataset)} pairs have more than {dataset.max_len} "
        f"tokens and were cut ({dataset.truncation})"
    )
    unread = describe_unknown(dataset.unknown_shares)
    return f"{cut}\n{unread}" if unread else cut


def describe_unknown(shares: NDArray[np.float64]) -> str:
    """Return a warning of pairs whose words a model hardly knows; nothing if there are none.

    Args:
        shares: of each pair's tokens, the share that the model does not know.
    """
    many = np.flatnonzero(shares > MANY_UNKNOWN)
    if not len(many):
        return ""
    if len(shares) == 1:
        return (
            f"warning: the model does not know {shares[0]:.0%} of this pair's tokens, so its "
            "answer means little"
        )
    return (
        f"warning: the model does not know more than a third of the tokens of {len(many)} of "
        f"{len(shares)} pairs (the first: pair {many[0] + 1}), so these answers mean little"
    )
