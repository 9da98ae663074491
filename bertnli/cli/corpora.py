"""Options on how sources of pairs are read, the same for every command, and what they mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bertnli.cli.parser import comma_list
from bertnli.data.formats import FORMATS

SOURCE = "SOURCE"
SOURCE_HELP = (
    "a file (TSV, CSV, JSON, parquet, Arrow), a folder or archive of such files, `-` for standard "
    "input, SNLI (downloaded once), sample (the small corpus that comes with bertnli), or any of "
    "these with a split, such as SNLI:dev"
)
#: Options and the arguments of `bertnli.read` that they are.
READING = {
    "table_format": "format",
    "delimiter": "delimiter",
    "quoted": "quoted",
    "header": "header",
    "encoding": "encoding",
    "premise_column": "premise",
    "hypothesis_column": "hypothesis",
    "label_column": "label",
    "label_map": "label_map",
}


def add_reading_options(
    parser: argparse.ArgumentParser,
    format: str = "--format",
    columns: Iterable[str] = ("premise", "hypothesis", "label"),
) -> None:
    """Add the options on how a source is read.

    Args:
        parser: of the command.
        format: what the option for the format is called.
        columns: those that the command reads.
    """
    group = parser.add_argument_group(
        "how a source is read",
        "what is not given is told by the source; notes say what was guessed",
    )
    group.add_argument(format, dest="table_format", choices=FORMATS, help="format of the file")
    group.add_argument(
        "--delimiter", type=_delimiter, metavar="CHAR", help=r"between fields, such as ; or \t"
    )
    for option, what in (
        ("quoted", "fields may stand in quotation marks"),
        ("header", "the first line names the columns"),
    ):
        either = group.add_mutually_exclusive_group()
        either.add_argument(f"--{option}", action="store_true", default=None, help=what)
        either.add_argument(
            f"--no-{option}", dest=option, action="store_false", default=None, help="the contrary"
        )
    group.add_argument("--encoding", metavar="NAME", help="of the text (default: UTF-8)")
    for column in columns:
        group.add_argument(
            f"--{column}-column",
            metavar="NAME",
            help=f"column of the {column}: its name, its number from 1, or keys with dots between",
        )
    if "label" in columns:
        group.add_argument(
            "--label-map",
            type=_label_map,
            metavar="MAP",
            help="what the file writes for each class, such as "
            "0=entailment,1=contradiction,2=neutral; a class of - is none",
        )
    group.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="leave malformed rows out and count them (default: they are an error)",
    )


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `bertnli.read` that were given as options."""
    given = {name: getattr(args, option, None) for option, name in READING.items()}
    given["on_error"] = "skip" if args.skip_bad_rows else None
    return {name: value for name, value in given.items() if value is not None}


def add_split_option(parser: argparse.ArgumentParser, default: str = "dev") -> None:
    """Add --split."""
    parser.add_argument(
        "--split",
        metavar="NAME",
        help=f"of a source with several: train, dev, test, or such as dev_matched (default: "
        f"{default})",
    )


def say_test(sources: Iterable[str], split: str | None) -> None:
    """Print a note where a test split is scored."""
    if split == "test" or any(source.endswith(":test") for source in sources):
        print(
            "note: the test split is meant to be used once, when every choice has been made",
            file=sys.stderr,
        )


def source_or_share(text: str) -> str | float:
    """Return a share of the training pairs, or else the source that an option names."""
    try:
        return text if Path(text).exists() else float(text)
    except ValueError:
        return text


def _delimiter(text: str) -> str:
    text = {r"\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, such as ; or \\t")
    return text


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
