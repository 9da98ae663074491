"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from bertnli._util.options import at_least, flag, group, option
from bertnli.api.loading import note
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
    """Split a list at its commas."""
    return [item.strip() for item in text.split(",")]


def duration(text: str) -> timedelta:
    """Parse a time such as 30s, 10m or 1h."""
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


#: Types of values, with the arguments of ``argparse.add_argument`` that they imply.
Count = Annotated[int, ("type", at_least(1))]
Duration = Annotated[timedelta, ("type", duration), ("metavar", "TIME")]
Names = Annotated[list[str], ("type", comma_list), ("metavar", "NAMES")]
Name = Annotated[str, ("metavar", "NAME")]
Folder = Annotated[str, ("metavar", "DIR")]
File = Annotated[Path, ("metavar", "FILE")]
AnyPath = Annotated[str, ("metavar", "PATH")]
Model = Annotated[str, ("metavar", "MODEL")]
Source = Annotated[str, ("metavar", "SOURCE")]
Models = Annotated[list[str], ("metavar", "MODEL"), ("nargs", "+")]
Delimiter = Annotated[str, ("type", _delimiter), ("metavar", "CHAR")]
LabelMap = Annotated[dict[str, str], ("type", _label_map), ("metavar", "MAP")]
Sources = Annotated[list[str], ("metavar", "SOURCE"), ("nargs", "+")]

checkpoint_option = partial(option, f"a checkpoint: {MODEL_HELP}", default=BUNDLED_MODEL)
batch_size_option = partial(option, "number of pairs computed at a time")
json_option = partial(flag, "print one JSON object")


def split_option(default: str = "dev") -> Any:
    """Make the option --split, whose help names a default."""
    return option(f"train, dev, test, or such as dev_matched (default: {default})")


def column_option(column: str) -> Any:
    """Make the option ``--NAME-column``, where NAME is ``column``, such as "label"."""
    help = f"column of the {column}: its name, its number from 1, or keys with dots between"
    return option(help, f"--{column}-column")


@dataclass(frozen=True)
class TableReading:
    """Options for reading a table, apart from its columns."""

    format: str | None = option("format of the file", choices=FORMATS)
    delimiter: Delimiter | None = option(r"character between fields, such as ; or \t")
    quoted: bool | None = option("fields may be in quotation marks")
    header: bool | None = option("the first line names the columns")
    encoding: Name | None = option("encoding of the text (default: UTF-8)")
    on_error: str | None = option(
        "skip and count malformed rows (default: an error)", "--skip-bad-rows", const="skip"
    )


@dataclass(frozen=True)
class PairReading(TableReading):
    """Options for reading unlabelled pairs."""

    premise: Name | None = column_option("premise")
    hypothesis: Name | None = column_option("hypothesis")


@dataclass(frozen=True)
class Reading(PairReading):
    """Options for reading labelled pairs."""

    label: Name | None = column_option("label")
    label_map: LabelMap | None = option(
        "class of each label, such as 0=entailment,1=contradiction,2=neutral; - skips its rows"
    )


reading_group = partial(
    group,
    title="how a source is read",
    description="by default as the source's name and content tell; notes say what was guessed",
)


@dataclass(frozen=True)
class Cut:
    """Options for cutting pairs to length."""

    max_len: int | None = option(
        "most tokens of a pair, special ones included (default: as in training, or else 128)"
    )
    truncation: str | None = option(
        "how longer pairs are cut: book takes tokens off the longer sentence, longest_first does "
        "the same as transformers, ratio keeps the ratio of the lengths (default: as in training, "
        "or else book)",
        choices=TRUNCATIONS,
    )


@dataclass(frozen=True)
class Unnamed:
    """Options for facts that a checkpoint may lack."""

    labels: Names | None = option("class names in the order of the logits, if not in the files")
    num_heads: Count | None = option("number of attention heads, if not in the files")


@dataclass(frozen=True)
class Where:
    """Options for the framework, the devices and the precision."""

    backend: str | None = option(
        f"the framework (default: the first of {', '.join(NAMES)} that is installed)", choices=NAMES
    )
    devices: Names | None = option("cpu, gpu (all), gpu:1 or gpu:0,gpu:1 (default: gpu, or cpu)")
    precision: str = option(
        "of matrix products; auto: bf16 if the hardware has it", default="fp32", choices=PRECISIONS
    )


where_group = partial(group, Where, "where to compute")


def check_plot(path: Path | None) -> None:
    """Raise ConfigError if a figure cannot be written to the path of --plot, unless it is None."""
    if path is not None:
        check_figure_path(path, "--plot")


def note_test_split(sources: Iterable[str], split: str | None) -> None:
    """Print a note if a score is computed on a test split."""
    if split == "test" or any(source.endswith(":test") for source in sources):
        note("the test split is meant to be used once, when every choice has been made")


@dataclass(frozen=True)
class Output:
    """Options for printing a result as JSON and drawing it."""

    plot: File | None = option("draw a figure: .png, .pdf or .svg")
    json: bool = json_option()

    def write(self, result: Any) -> None:
        """Print a result that has ``to_dict`` and ``plot``, and draw it if --plot was given."""
        print(json.dumps(result.to_dict(), indent=2) if self.json else result)
        if self.plot is not None:
            result.plot().savefig(self.plot)
