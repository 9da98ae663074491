"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from bertnli._util.options import at_least, flag, group, option
from bertnli.backends import NAMES
from bertnli.bert.config import PRECISIONS
from bertnli.data.formats import FORMATS
from bertnli.plots import check_figure_path
from bertnli.text.pairs import TRUNCATIONS

#: The model that comes with bertnli.
BUNDLED_MODEL = "bert.mini"
SOURCE_HELP = (
    "a file (TSV, CSV, JSON, parquet, Arrow), a folder or archive of such files, `-` for standard "
    "input, SNLI (downloaded once), sample (the small corpus that comes with bertnli), or any of "
    "these with a split, such as SNLI:dev"
)
MODEL_HELP = f"folder of a run or a checkpoint, or {BUNDLED_MODEL}, which comes with bertnli"


def comma_list(text: str) -> list[str]:
    """Return the items of a list with commas."""
    return [item.strip() for item in text.split(",")]


def duration(text: str) -> timedelta:
    """Return a time such as 30s, 10m or 1h."""
    match = re.fullmatch(r"0*([1-9]\d*)([smh])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 30s, 10m or 1h")
    return timedelta(seconds=int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])


def _label_map(text: str) -> dict[str, str]:
    items = [item.partition("=") for item in text.split(",")]
    classes = {key.strip(): value.strip() for key, _, value in items}
    if not all((*classes, *classes.values())) or len(classes) < len(items):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0=entailment,1=neutral")
    return classes


def _delimiter(text: str) -> str:
    text = {r"\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, such as ; or \\t")
    return text


#: Types of values: how argparse reads them, and what the help calls them.
Count = Annotated[int, ("type", at_least(1))]
Duration = Annotated[timedelta, ("type", duration), ("metavar", "TIME")]
Names = Annotated[list[str], ("type", comma_list), ("metavar", "NAMES")]
Name = Annotated[str, ("metavar", "NAME")]
Folder = Annotated[str, ("metavar", "DIR")]
File = Annotated[Path, ("metavar", "FILE")]
Model = Annotated[str, ("metavar", "MODEL")]
Source = Annotated[str, ("metavar", "SOURCE")]
Models = Annotated[list[str], ("metavar", "MODEL"), ("nargs", "+")]
Sources = Annotated[list[str], ("metavar", "SOURCE"), ("nargs", "+")]

checkpoint_option = partial(
    option,
    "folder of a run or a checkpoint (default: the small model that comes with bertnli)",
    default=BUNDLED_MODEL,
    metavar="PATH",
)


def split_option(default: str = "dev") -> Any:
    """Return --split."""
    text = "of a source with several: train, dev, test, or such as dev_matched"
    return option(f"{text} (default: {default})")


def column_option(column: str) -> Any:
    """Return the option that names a column."""
    text = f"column of the {column}: its name, its number from 1, or keys with dots between"
    return option(text, f"--{column}-column")


@dataclass(frozen=True)
class TableReading:
    """How a table is read, whatever its columns are."""

    format: str | None = option("format of the file", choices=FORMATS)
    delimiter: str | None = option(
        r"between fields, such as ; or \t", type=_delimiter, metavar="CHAR"
    )
    quoted: bool | None = option("fields may stand in quotation marks")
    header: bool | None = option("the first line names the columns")
    encoding: Name | None = option("of the text (default: UTF-8)")
    on_error: str | None = option(
        "leave malformed rows out and count them (default: they are an error)",
        "--skip-bad-rows",
        const="skip",
    )


@dataclass(frozen=True)
class PairReading(TableReading):
    """Options for reading unlabelled pairs."""

    premise: Name | None = column_option("premise")
    hypothesis: Name | None = column_option("hypothesis")


@dataclass(frozen=True)
class Reading(PairReading):
    """How labelled pairs are read."""

    label: Name | None = column_option("label")
    label_map: dict[str, str] | None = option(
        "what the file writes for each class, such as 0=entailment,1=contradiction,2=neutral; a "
        "class of - is none",
        type=_label_map,
        metavar="MAP",
    )


reading_group = partial(
    group,
    title="how a source is read",
    description="what is not given is told by the source; notes say what was guessed",
)


@dataclass(frozen=True)
class Cut:
    """How pairs are cut to length."""

    max_len: int | None = option(
        "tokens of a pair, special ones included; longer pairs are cut (default: what the "
        "classifier was trained with; 128 where that is not known, and for a new one)"
    )
    truncation: str | None = option(
        "how long pairs are cut: book takes tokens off the longer sentence, longest_first "
        "does so as transformers does, ratio keeps the ratio of the two lengths (default: what "
        "the classifier was trained with; book where that is not known, and for a new one)",
        choices=TRUNCATIONS,
    )


@dataclass(frozen=True)
class Unnamed:
    """What a checkpoint may not tell."""

    labels: Names | None = option(
        "the classes in the order of the logits, where the checkpoint does not name them, or "
        "contradicts itself"
    )
    num_heads: Count | None = option("attention heads, which files of parameters alone do not tell")


@dataclass(frozen=True)
class Where:
    """Where to compute."""

    backend: str | None = option(
        f"the framework (default: the first of {', '.join(NAMES)} that is installed)", choices=NAMES
    )
    devices: Names | None = option(
        "cpu, gpu (all of them), gpu:1 or gpu:0,gpu:1 (default: all GPUs, or else the CPU)"
    )
    precision: str = option(
        "of matrix products; auto takes bf16 where the hardware has it",
        default="fp32",
        choices=PRECISIONS,
    )


where_group = partial(group, Where, "where to compute")
json_option = partial(flag, "print one JSON object")


def check_plot(path: Path | None) -> None:
    """Raise an error if a figure cannot be written; to call before any work."""
    if path is not None:
        check_figure_path(path, "--plot")


@dataclass(frozen=True)
class Output:
    """How a result is printed."""

    plot: File | None = option("draw it: .png, .pdf or .svg")
    json: bool = json_option()

    def write(self, result: Any) -> None:
        """Print a result, which has ``to_dict`` and ``plot``, and draw it."""
        print(json.dumps(result.to_dict(), indent=2) if self.json else result)
        if self.plot is not None:
            result.plot().savefig(self.plot)
