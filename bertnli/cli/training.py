"""The commands that train."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from bertnli._util.options import argument, at_least, flag, group, option, required, section
from bertnli.api.runs import MIN_FREQ, SCRATCH_MODEL
from bertnli.api.train import pretrain, train
from bertnli.bert.config import PRESETS, RECIPES, TrainingConfig
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments, optional
from bertnli.errors import ConfigError
from bertnli.training.launch import Layout, launch
from bertnli.training.run import KEEP, SAVE_EVERY
from bertnli.training.watch import RANK_TIMEOUT

TASKS = ("mlm,nsp", "mlm")


def _steps_or_time(text: str) -> int | timedelta:
    try:
        return at_least(1)(text) if text.isdecimal() else options.duration(text)
    except argparse.ArgumentTypeError:
        words = f"{text!r} is neither like 500 nor like 30s, 10m or 1h"
        raise argparse.ArgumentTypeError(words) from None


def _source_or_share(text: str) -> str | float:
    """Parse --dev: a number is a share of the training pairs, unless a file has that name."""
    try:
        return text if Path(text).exists() else float(text)
    except ValueError:
        return text


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not like node0:9500")
    return host, int(port)


When = Annotated[int | timedelta, ("type", _steps_or_time), ("metavar", "WHEN")]
Address = Annotated[tuple[str, int], ("type", _address), ("metavar", "HOST:PORT")]
Tasks = Annotated[str, ("choices", TASKS), ("metavar", "TASKS")]
Dev = Annotated[str | float, ("type", _source_or_share), ("metavar", "SOURCE|SHARE")]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options for the folder of a run and its files."""

    output: options.Folder = required("folder of the run")
    overwrite: bool = flag("replace the run in --output; other files are kept", exclusive="start")
    resume: bool = flag(
        "continue the run in --output, or start it if there is none; give the same options as "
        "before. The weights are the same to the bit on the same machine with as many threads and "
        "the same versions, elsewhere to rounding: a note says what differs",
        exclusive="start",
    )
    save_every: When = option(
        "how often to save a state to resume from, in steps (500) or time (30s, 10m, 1h; default: "
        "10m); one is saved after every epoch, too",
        default=SAVE_EVERY,
    )
    keep: options.Count = option("number of such states to keep", default=KEEP)
    rank_timeout: options.Duration = option(
        "how long one of several processes waits for the others before it saves what it can and "
        "ends with the exit status 75 (default: 10m)",
        default=RANK_TIMEOUT,
    )
    tensorboard: options.Folder | None = option("folder of this run's events for TensorBoard")
    quiet: bool = flag("print nothing but errors; no progress bar")


@dataclass(frozen=True)
class Sizes:
    """Options for the sizes of a BERT and its dropout."""

    num_hiddens: int | None = option("width of every token's vector")
    ffn_num_hiddens: int | None = option("width inside the feed-forward networks")
    num_heads: int | None = option("attention heads")
    num_blks: int | None = option("encoder blocks")
    max_positions: int | None = option("positions that have an embedding")
    dropout: float | None = option("dropout (default: the model's, or 0.1)", metavar="P")


#: Options for the settings of a run; for None, the value is the recipe's.
Settings: Any = optional(TrainingConfig, "book")
BEST = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in RECIPES["best"].items())


@dataclass(frozen=True)
class Training:
    """Options for the recipe and for settings in its place."""

    recipe: str = option(
        f"book: Adam at a constant rate; best: {BEST}", default="book", choices=sorted(RECIPES)
    )
    settings: Settings = group(Settings)
    micro_batch_size: options.Count | None = option(
        "pairs of a step that a process computes at a time, to save memory (default: the fastest)"
    )
    auto_batch: bool = flag("if memory does not suffice, halve --micro-batch-size and continue")
    cut: options.Cut = group(options.Cut)


scratch_help = f"sizes of a model from scratch (default: {SCRATCH_MODEL})"
model_option = partial(option, scratch_help, choices=sorted(PRESETS), exclusive="start")
rare_help = f"from scratch: words seen less often become <unk> (default: {MIN_FREQ})"
min_freq_option = partial(option, rare_help)
training_help = "the defaults are the recipe's; 0 turns an option of it off (1 for --layer-decay)"
training_group = partial(group, Training, "training", training_help)


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a classifier of sentence pairs, on a pretrained BERT or on a small one from scratch.

    The output folder gets best/ (the epoch with the highest dev accuracy), last/, metrics.jsonl,
    curve.png, and state/, from which --resume continues. The first Ctrl-C or SIGTERM ends the run
    after the current step and saves last/ and state/; after SIGTERM the exit status is 0.

    examples:
      bertnli train --train sample --output runs/sample --num-hiddens 128 --ffn-num-hiddens 256 \\
          --min-freq 2 --batch-size 32 --lr 1e-3 --epochs 10
      bertnli train --train SNLI --pretrained bert.small --output runs/small
      bertnli train --train pairs.csv --dev 0.1 --premise-column text --hypothesis-column claim \\
          --label-column y --label-map 0=entailment,1=contradiction,2=neutral \\
          --pretrained bert.mini --batch-size 32 --output runs/mine
          on your own table; a tenth of the pairs is held out, by premise
      bertnli train --train SNLI --pretrained bert.base --recipe best --output runs/best --resume
          the same line again after each interruption
    """

    run_options: RunOptions = group(RunOptions)
    _data: None = section("data")
    train: options.Sources = required(options.SOURCE_HELP)
    dev: Dev | None = option(
        "pairs to choose the best epoch by; or a share of the training pairs to hold out by "
        "premise, such as 0.1 (default: the dev split of --train, if it has one)"
    )
    probabilities: str | None = option(
        "train on a teacher's probabilities of the classes: an object in each line of --train, as "
        "`bertnli predict --json` writes them (key: probabilities)",
        "--soft-labels",
        nargs="?",
        const="probabilities",
        metavar="KEY",
    )
    labels: options.Names | None = option("classes in the order of their ids (default: --train's)")
    reading: options.Reading = options.reading_group(options.Reading)
    _model: None = section("model", "by default from scratch, with the training set's vocabulary")
    pretrained: options.Model | None = option(
        "model to start from: a name of the hub, a folder or zip with pretrained.params and "
        "vocab.json, a Hugging Face folder of a BERT, or a .params file of GluonNLP with its "
        "vocabulary beside it; sizes that are not given are the file's",
        exclusive="start",
    )
    model: str | None = model_option()
    new_head: bool = flag("begin with a new output layer, even if --pretrained is a classifier")
    sizes: Sizes = group(Sizes)
    min_freq: int | None = min_freq_option()
    training: Training = training_group()
    where: options.Where = options.where_group()

    def run(self) -> None:
        sources = self.train if len(self.train) > 1 else self.train[0]
        train(sources, **arguments(self, "train", "quiet"), progress=not self.run_options.quiet)


@dataclass(frozen=True, kw_only=True)
class Pretrain(Command):
    """Pretrain a BERT on plain text: masked words, and whether a sentence follows another.

    A line of a text file is a sentence, and an empty line ends a document; with --text-column, a
    row of a table is a document. `bertnli train --pretrained RUN` takes best/ of the output folder:
    the last epoch, or with --dev-text the one with the most masked words predicted right.

    examples:
      bertnli pretrain --text corpus.txt --output runs/pretrained --lr 1e-3 --schedule linear
      bertnli pretrain --text wiki.txt --split-sentences --word-pieces 8000 --whole-words \\
          --tasks mlm --output runs/mlm
      bertnli pretrain --text reviews.csv --text-column review --pretrained bert.small \\
          --output runs/adapted
    """

    run_options: RunOptions = group(RunOptions)
    _text: None = section("text")
    text: options.Sources = required("text files, UTF-8, a sentence a line; or tables")
    text_column: options.Name | None = option("column of the text, if it is in tables")
    dev_text: options.Sources | None = option("text to choose the best epoch by")
    split_sentences: bool = flag("a line is a document of several sentences, which end at . ! or ?")
    _tasks: None = section("tasks")
    tasks: Tasks = option(
        "mlm,nsp: masked words and the next sentence; mlm: masked words alone", default=TASKS[0]
    )
    whole_words: bool = flag("mask all pieces of a word")
    mask_rate: float = option("share of the tokens to predict", default=0.15, metavar="SHARE")
    _model: None = section("model")
    pretrained: options.Model | None = option("as for `bertnli train`", exclusive="start")
    model: str | None = model_option()
    sizes: Sizes = group(Sizes)
    min_freq: int | None = min_freq_option(exclusive="vocabulary")
    word_pieces: options.Count | None = option(
        "number of word pieces to learn, in place of words", exclusive="vocabulary"
    )
    training: Training = training_group()
    where: options.Where = options.where_group()
    reading: options.TableReading = options.reading_group(options.TableReading)

    def run(self) -> None:
        if self.training.cut.truncation not in (None, "book"):
            raise ConfigError("--truncation is for labelled pairs; text is cut as the book cuts it")
        pretrain(
            **arguments(self, "quiet", "tasks", "truncation"),
            next_sentence=self.tasks == TASKS[0],
            progress=not self.run_options.quiet,
        )


@dataclass(frozen=True, kw_only=True)
class Launch(Command):
    """Start several processes that train together on MXNet, on one host or several.

    Each process computes its share of every batch, and the numbers are those of one process. All
    are ended when one dies; the same command with --resume continues. For PyTorch, use torchrun.

    examples:
      bertnli launch --workers 2 -- train --train SNLI --pretrained bert.small --output runs/small
      bertnli launch --workers 4 --hosts 2 --host 0 --address node0:9500 -- train ...
    """

    workers: options.Count = required("number of processes that train, on each host")
    servers: options.Count = option("number that add up gradients, on each host", default=1)
    hosts: options.Count = option("number of hosts", default=1)
    host: int = option("index of this host", default=0, type=at_least(0), metavar="I")
    address: Address | None = option("host 0 and a free port on it, if there are several hosts")
    command: list[str] = argument(
        "`train` and its options, for each worker", metavar="-- COMMAND", nargs=argparse.REMAINDER
    )

    def run(self) -> int:
        command = self.command[1:] if self.command[:1] == ["--"] else self.command
        if command[:1] != ["train"]:
            raise ConfigError("give a command after --: bertnli launch --workers 2 -- train ...")
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--backend")
        backend = parser.parse_known_args(command)[0].backend
        if backend not in (None, "mxnet"):
            raise ConfigError(
                f"launch is for MXNet, not {backend}; for PyTorch: torchrun --nproc-per-node "
                f"{self.workers} -m bertnli {shlex.join(command)}"
            )
        if backend is None:
            command = [*command, "--backend", "mxnet"]
        layout = Layout(self.workers, self.servers, self.hosts, self.host, self.address)
        return launch(layout, [sys.executable, "-m", "bertnli", *command])
