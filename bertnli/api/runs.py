"""What training and pretraining have in common: checked settings, a model, the run itself."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import did_you_mean
from bertnli._util.outputs import check_output_folder
from bertnli.api.loading import say_precision
from bertnli.backends.interface import Backend
from bertnli.bert.config import PRESETS, BERTConfig, TrainingConfig
from bertnli.bert.parameters import Shapes
from bertnli.data.batches import ExampleSet
from bertnli.data.dataset import PairDataset
from bertnli.data.reading import Reading
from bertnli.errors import ConfigError, without_secrets
from bertnli.evaluation.scores import chance_bound
from bertnli.formats.native import is_checkpoint
from bertnli.nets.trainable import Trainable
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab
from bertnli.training.history import EpochRecord, History
from bertnli.training.ownership import STATE, check_run_folder
from bertnli.training.state import states
from bertnli.training.watch import RANK_TIMEOUT

#: A model's sizes: what they are called here, and the argument of ``BERTModel``.
SIZES = {
    **{name: name for name in ("num_hiddens", "ffn_num_hiddens", "num_heads", "num_blks")},
    "max_positions": "max_len",
}
SETTINGS = tuple(field.name for field in fields(TrainingConfig))
TRAINER = ("precision", "micro_batch_size", "auto_batch")
FIT = ("overwrite", "resume", "save_every", "keep", "tensorboard", "on_epoch", "observers")
READING = tuple(field.name for field in fields(Reading))
SCRATCH_MODEL, MIN_FREQ = "bert.small", 5


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        net: as it was after the last step; ``folder / "best"`` has the best epoch's.
        history: the numbers of each epoch.
        folder: of the run; None where nothing was written.
    """

    net: Any
    history: History
    folder: Path | None


class Setup:
    """A run before its data and its model are there: what was asked for, checked.

    Args:
        backend: which one.
        devices: of the backend, or their names.
        output: the run's folder; None to write nothing.
        progress: print what is done, in the first of several processes.
        recipe: see `TrainingConfig.of_recipe`.
        rank_timeout: see `Trainer`.
        options: sizes (`SIZES`), settings (`SETTINGS`), arguments of ``Trainer`` (`TRAINER`) and of
            ``fit`` (`FIT`); None leaves each to its default.
        more: names of further options, which the caller takes.

    Raises:
        ConfigError: a setting that cannot be, or a folder that cannot be written.
        TypeError: an option that nobody takes.
    """

    def __init__(
        self,
        backend: Backend,
        devices: Any,
        output: str | Path | None,
        progress: bool,
        recipe: str,
        rank_timeout: timedelta | None,
        options: Mapping[str, Any],
        more: Iterable[str] = (),
    ) -> None:
        known = (*SIZES, *SETTINGS, *TRAINER, *FIT, *more)
        for name in options:
            if name not in known:
                hint = did_you_mean(name, known)
                raise TypeError(f"got an unexpected keyword argument {name!r}{hint}")
        given = {name: value for name, value in options.items() if value is not None}
        settings, self.trainer, self.fit_options, self.more = (
            {name: given[name] for name in names if name in given}
            for names in (SETTINGS, TRAINER, FIT, tuple(more))
        )
        self.sizes = {SIZES[name]: given[name] for name in SIZES if name in given}
        self.config = TrainingConfig.of_recipe(recipe, **settings)
        self.backend, self.devices = backend, backend.as_devices(devices)
        self.rank_timeout = rank_timeout or RANK_TIMEOUT
        self.workers = backend.find_workers(self.rank_timeout)
        self.progress = progress and self.workers.is_first
        self.output = None if output is None else Path(output)
        if self.workers.size == 1:  # else the first alone writes, and tells all when it does
            if self.output is not None:
                overwrite, resume = (bool(given.get(name)) for name in ("overwrite", "resume"))
                check_run_folder(self.output, overwrite, resume)
            if "tensorboard" in given:
                check_output_folder(given["tensorboard"], "TensorBoard")

    def say(self, text: str) -> None:
        """Print, unless asked not to."""
        if self.progress:
            print(text, flush=True)

    def pretrained(self, path: str | Path, dropout: float, **kind: Any) -> Any:
        """Return the BERT of a pretrained model."""
        options = {"dropout": dropout, "devices": self.devices, **self.sizes, **kind}
        return self.backend.load_pretrained_model(path, **options)[0]

    def from_scratch(self, model: str | None, vocab: Vocab, dropout: float) -> Any:
        """Return a BERT with start values, of a preset's sizes where no others are given."""
        if model is not None and model not in PRESETS:
            raise ConfigError(f"model is {model!r}; it is one of {sorted(PRESETS)}")
        sizes = {**PRESETS[model or SCRATCH_MODEL], **self.sizes}
        options = {"dropout": dropout, "seed": self.config.seed, "vocab": vocab}
        return self.backend.BERTModel(len(vocab), **sizes, **options)

    def describe_model(
        self, pretrained: str | Path | None, config: BERTConfig, shapes: Shapes
    ) -> str:
        """Return a line on the model."""
        parameters = sum(math.prod(shape) for shape in shapes.values())
        return (
            f"model: {without_secrets(str(pretrained or 'from scratch'))}, {config.num_blks} "
            f"blocks, {config.num_hiddens} wide, {config.ffn_num_hiddens} inside, "
            f"{config.num_heads} heads, {config.max_len} positions, {parameters:,} parameters"
        )

    @property
    def where(self) -> str:
        """A line on what computes."""
        return f"backend: {self.backend.name} on {', '.join(map(str, self.devices))}"

    def fit(
        self,
        net: Trainable,
        train_set: ExampleSet,
        dev_set: ExampleSet | None,
        is_pretrained: bool,
    ) -> Run:
        """Train a net, and say what was done."""
        if self.workers.size > 1:
            self.say(f"processes: {self.workers.size}, each with its share of every batch")
        settings = asdict(self.config)
        epochs, batch_size = settings.pop("num_epochs"), settings.pop("batch_size")
        trainer = self.backend.Trainer(
            net,
            devices=self.devices,
            rank_timeout=self.rank_timeout,
            **self.trainer,
            **settings,
        )
        if self.progress:
            say_precision(trainer.net.precision, trainer.engine.precision_reason)
        self.fit_options.setdefault("on_epoch", lambda record: self.say(str(record)))
        try:
            history = trainer.fit(
                train_set,
                dev_set,
                epochs,
                batch_size,
                output=self.output,
                progress=self.progress,
                **self.fit_options,
            )
        except (KeyboardInterrupt, SystemExit) as stop:
            if self.workers.is_first and self.output is not None:
                print(_describe_stop(self.output, stop), file=sys.stderr)
            raise
        if self.output is not None:
            self.say(_describe_best(self.output, history.best))
        if isinstance(train_set, PairDataset) and self.progress:
            for warning in _warnings_of_chance(history, train_set, dev_set, is_pretrained):
                print(f"warning: {warning}", file=sys.stderr)
        return Run(net, history, self.output)


def encoding_of(
    config: BERTConfig, own: PairEncoding | None, max_len: int | None, truncation: str | None
) -> PairEncoding:
    """Return how pairs are cut to length: as asked for, or else a checkpoint's own way.

    Args:
        config: the model's sizes.
        own: the checkpoint's way; None where it has none, for the book's.
        max_len, truncation: what was asked for; None for nothing.

    Raises:
        ConfigError: ``max_len`` is more than the model has positions.
    """
    own = own or PairEncoding.default(config.max_len)
    return own.overridden(max_len, truncation, config.max_len)


def describe_vocab(token_ids: NDArray[np.int32], vocab: Vocab, what: str) -> str:
    """Return a line on the vocabulary, and on what it does not know of a set."""
    unknown = float((token_ids == vocab.unk).mean()) if len(token_ids) else 0.0
    return f"vocabulary: {len(vocab)} tokens; {unknown:.1%} of the {what} is <unk>"


def _describe_stop(output: Path, stop: BaseException) -> str:
    saved = is_checkpoint(output / "last")
    where = f"the weights are in {output / 'last'}" if saved else "nothing was saved"
    again = "; --resume goes on" if states(output / STATE) else ""
    why = "stopped by SIGTERM" if isinstance(stop, SystemExit) else "interrupted"
    return f"{why}; {where}{again}"


def _describe_best(output: Path, best: EpochRecord) -> str:
    score = "" if best.dev_accuracy is None else f", dev acc {best.dev_accuracy:.3f}"
    return (
        f"checkpoints: {output / 'best'} (epoch {best.epoch}{score}), {output / 'last'}; "
        f"every epoch's numbers: {output / 'metrics.jsonl'}"
    )


def _warnings_of_chance(
    history: History, train_set: PairDataset, dev_set: ExampleSet | None, is_pretrained: bool
) -> Iterator[str]:
    """Yield what to say of a classifier that predicts no better than chance; see `chance_bound`."""
    best = history.best
    name, data, accuracy, tries = "dev", dev_set, best.dev_accuracy, len(history.epochs)
    if accuracy is None:
        name, data, accuracy, tries = "training", train_set, best.train_accuracy, 1
    assert isinstance(data, PairDataset)
    share, majority, low = chance_bound(accuracy, data.labels, tries)
    label = data.label_names[majority]
    if share == 1:
        yield f"all {len(data)} {name} pairs are {label}: their accuracy says nothing"
    elif low <= share:
        pretrained = "" if is_pretrained else "a pretrained model (--pretrained bert.mini), "
        yield (
            f"not significantly better than chance: {name} accuracy {accuracy:.3f} on "
            f"{len(data)} pairs (the interval begins at {low:.3f}), and always saying {label} "
            f"scores {share:.3f}. Try {pretrained}more pairs than {len(train_set)}, a smaller "
            f"--batch-size or more --epochs ({history.epochs[-1].steps} steps were taken), or a "
            "higher --lr"
        )
