"""The parts that `bertnli.train` and `bertnli.pretrain` share: settings, models, runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import did_you_mean
from bertnli._util.outputs import check_output_folder
from bertnli.api.loading import backend_of, print_precision
from bertnli.backends.interface import Backend
from bertnli.bert.config import PRESETS, TrainingConfig
from bertnli.data.batches import ExampleSet
from bertnli.data.dataset import PairDataset
from bertnli.data.reading import Reading
from bertnli.errors import ConfigError, without_secrets
from bertnli.evaluation.scores import chance_bound
from bertnli.formats.checkpoint import DROPOUT
from bertnli.formats.native import is_checkpoint
from bertnli.nets.trainable import Trainable
from bertnli.text.vocab import Vocab
from bertnli.training.checks import STATE, check_run_folder
from bertnli.training.history import History
from bertnli.training.state import states
from bertnli.training.watch import RANK_TIMEOUT

#: The sizes of a model: option to argument of ``BERTModel``.
SIZES = {
    **{name: name for name in ("num_hiddens", "ffn_num_hiddens", "num_heads", "num_blks")},
    "max_positions": "max_len",
}
#: The options that are passed on to `TrainingConfig`, ``Trainer``, its ``fit``, and `read`.
SETTINGS = tuple(field.name for field in fields(TrainingConfig))
TRAINER = ("precision", "micro_batch_size", "auto_batch")
FIT = ("overwrite", "resume", "save_every", "keep", "tensorboard", "on_epoch", "observers")
READING = tuple(field.name for field in fields(Reading))
SCRATCH_MODEL, MIN_FREQ = "bert.small", 5


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        net: the net after the last step; the net of the best epoch is in ``folder / "best"``.
        history: the results of each epoch.
        folder: the folder of the run; None if nothing was written.

    Examples:
        >>> run = bertnli.train("sample", pretrained="bert.mini", num_epochs=1, progress=False)
        >>> run.net.labels
        ('entailment', 'contradiction', 'neutral')
    """

    net: Any
    history: History
    folder: Path | None


class Setup:
    """Checks the arguments of a training function, then makes a model and trains it.

    Args:
        backend, devices, output, progress, recipe, rank_timeout: see `bertnli.train`.
        options: sizes, settings, and arguments of ``Trainer``, ``fit`` and `bertnli.read`.

    Raises:
        ConfigError: a setting is invalid, or the folder cannot be written.
        TypeError: an option is unknown.
    """

    def __init__(
        self,
        backend: str | Backend | None,
        devices: Any,
        output: str | Path | None,
        progress: bool,
        recipe: str,
        rank_timeout: timedelta | None,
        options: Mapping[str, Any],
    ) -> None:
        known = (*SIZES, *SETTINGS, *TRAINER, *FIT, *READING)
        for name in options:
            if name not in known:
                hint = did_you_mean(name, known)
                raise TypeError(f"got an unexpected keyword argument {name!r}{hint}")
        given = {name: value for name, value in options.items() if value is not None}
        sizes, settings, self.trainer, self.fit_options, self.reading = (
            {name: given[name] for name in names if name in given}
            for names in (SIZES, SETTINGS, TRAINER, FIT, READING)
        )
        self.sizes = {SIZES[name]: size for name, size in sizes.items()}
        self.config = TrainingConfig.of_recipe(recipe, **settings)
        self.backend = backend_of(backend)
        self.devices = self.backend.as_devices(devices)
        self.rank_timeout = rank_timeout or RANK_TIMEOUT
        self.workers = self.backend.find_workers(self.rank_timeout)
        self.progress = progress and self.workers.is_first
        self.output = None if output is None else Path(output)
        self.origin: str | Path | None = None
        if self.workers.size == 1:  # of several processes, the first checks, in `fit`
            if self.output is not None:
                overwrite, resume = (bool(given.get(name)) for name in ("overwrite", "resume"))
                check_run_folder(self.output, overwrite, resume)
            if "tensorboard" in given:
                check_output_folder(given["tensorboard"], "TensorBoard")

    def print(self, text: str) -> None:
        """Print a line of progress if ``progress`` is True."""
        if self.progress:
            print(text, flush=True)

    def pretrained(self, path: str | Path, dropout: float | None, **kind: Any) -> Any:
        """Load a pretrained BERT; for ``kind`` see `Backend.load_pretrained_model`."""
        self.origin = path
        options = {"dropout": dropout, "devices": self.devices, **self.sizes, **kind}
        return self.backend.load_pretrained_model(path, **options)[0]

    def from_scratch(self, model: str | None, vocab: Vocab, dropout: float | None) -> Any:
        """Make a BERT with random weights; sizes that were not given are those of a preset."""
        if model is not None and model not in PRESETS:
            raise ConfigError(f"model is {model!r}; it is one of {sorted(PRESETS)}")
        sizes = {**PRESETS[model or SCRATCH_MODEL], **self.sizes}
        p = DROPOUT if dropout is None else dropout
        options = {"dropout": p, "seed": self.config.seed, "vocab": vocab}
        return self.backend.BERTModel(len(vocab), **sizes, **options)

    def print_net(self, net: Any, token_ids: NDArray[np.int32], what: str) -> None:
        """Print a net's origin and sizes, and the share of unknown tokens in the set ``what``."""
        config, vocab = net.config, net.required_vocab()
        parameters = sum(math.prod(shape) for shape in net.shapes().values())
        self.print(
            f"model: {without_secrets(str(self.origin or 'from scratch'))}, {config.num_blks} "
            f"blocks, {config.num_hiddens} wide, {config.ffn_num_hiddens} inside, "
            f"{config.num_heads} heads, {config.max_len} positions, {parameters:,} parameters"
        )
        unknown = float((token_ids == vocab.unk).mean()) if len(token_ids) else 0.0
        self.print(f"vocabulary: {len(vocab)} tokens; {unknown:.1%} of the {what} is <unk>")

    def fit(self, net: Trainable, train: ExampleSet, dev: ExampleSet | None) -> Run:
        """Train a net, choose the best epoch by the dev set, if any, and print the results."""
        self.print(f"backend: {self.backend.name} on {', '.join(map(str, self.devices))}")
        if self.workers.size > 1:
            self.print(f"processes: {self.workers.size}, each with its share of every batch")
        settings = asdict(self.config)
        epochs, batch_size = settings.pop("num_epochs"), settings.pop("batch_size")
        where = {"devices": self.devices, "rank_timeout": self.rank_timeout}
        trainer = self.backend.Trainer(net, **where, **self.trainer, **settings)
        if self.progress:
            print_precision(trainer.net.precision, trainer.engine.precision_reason)
        self.fit_options.setdefault("on_epoch", lambda record: self.print(str(record)))
        options = {**self.fit_options, "output": self.output, "progress": self.progress}
        try:
            history = trainer.fit(train, dev, epochs, batch_size, **options)
        except (KeyboardInterrupt, SystemExit) as stop:
            if self.workers.is_first and self.output is not None:
                print(_describe_stop(self.output, stop), file=sys.stderr)
            raise
        if self.output is not None:
            best, folder = history.best, self.output
            score = "" if best.dev_accuracy is None else f", dev acc {best.dev_accuracy:.3f}"
            self.print(
                f"checkpoints: {folder / 'best'} (epoch {best.epoch}{score}), {folder / 'last'}; "
                f"every epoch's numbers: {folder / 'metrics.jsonl'}"
            )
        if isinstance(train, PairDataset) and self.progress:
            warning = self._warning_of_chance(history, train, dev)
            if warning:
                print(f"warning: {warning}", file=sys.stderr)
        return Run(net, history, self.output)

    def _warning_of_chance(
        self, history: History, train: PairDataset, dev: ExampleSet | None
    ) -> str | None:
        """Return a warning if the best accuracy may be chance, else None; see `chance_bound`."""
        best = history.best
        name, data, accuracy, tries = "dev", dev, best.dev_accuracy, len(history.epochs)
        if accuracy is None:
            name, data, accuracy, tries = "training", train, best.train_accuracy, 1
        assert isinstance(data, PairDataset)
        share, majority, low = chance_bound(accuracy, data.labels, tries)
        label = data.label_names[majority]
        if share == 1:
            return f"all {len(data)} {name} pairs are {label}: their accuracy says nothing"
        if low > share:
            return None
        pretrained = "" if self.origin else "a pretrained model (--pretrained bert.mini), "
        return (
            f"not significantly better than chance: {name} accuracy {accuracy:.3f} on "
            f"{len(data)} pairs (the interval begins at {low:.3f}), and always saying {label} "
            f"scores {share:.3f}. Try {pretrained}more pairs than {len(train)}, a smaller "
            f"--batch-size or more --epochs ({history.epochs[-1].steps} steps were taken), or a "
            "higher --lr"
        )


def _describe_stop(output: Path, stop: BaseException) -> str:
    saved = is_checkpoint(output / "last")
    where = f"the weights are in {output / 'last'}" if saved else "nothing was saved"
    again = "; --resume goes on" if states(output / STATE) else ""
    why = "stopped by SIGTERM" if isinstance(stop, SystemExit) else "interrupted"
    return f"{why}; {where}{again}"
