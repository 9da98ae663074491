"""The trainer: a net, its optimizer and devices, and the methods that train and evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.bert.config import TrainingConfig
from bertnli.data.batches import Batch
from bertnli.data.corpus import ONE_LIST
from bertnli.errors import ConfigError
from bertnli.nets.classifier import Classifier, Prediction
from bertnli.nets.trainable import Trainable, check_backend, in_words
from bertnli.training.checks import settings_of
from bertnli.training.engine import BaseEngine, Limits, StepResult
from bertnli.training.history import EpochRecord, History
from bertnli.training.loop import EVAL_BATCH_SIZE, Loop, evaluate
from bertnli.training.observers import EpochCallback, Observer, TensorBoard, progress_observer
from bertnli.training.run import KEEP, SAVE_EVERY, RunFolder
from bertnli.training.sets import Data, Source
from bertnli.training.watch import RANK_TIMEOUT


class Trainer:
    """Trains a net with Adam on the mean loss of each batch.

    Args:
        net: a classifier, or a BERT to pretrain.
        lr: learning rate (the peak, if there is a schedule); None for the recipe's.
        devices: devices or their names; None for all GPUs or else the CPU. Each batch is split over
            them; the loss stays the mean over the whole batch. If `torchrun` or `bertnli launch`
            started several processes, each batch is first split over these.
        recipe: default values of the arguments that are None: ``"book"``, with everything off, or
            ``"best"``; see `bertnli.bert.config.RECIPES`.
        schedule, warmup, weight_decay, clip_norm, layer_decay, label_smoothing, average, patience:
            settings of the recipe; see `TrainingConfig`.
        seed: random seed; order of the data and dropout are functions of (seed, epoch, step).
        precision: precision of matrix products: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 if the
            hardware has it. Weights, losses, softmax and layer normalisation stay in float32. The
            net keeps the setting. With ``"fp32"`` a run repeats on other machines.
        micro_batch_size: maximum number of a batch's pairs that a process computes together. A
            smaller number takes less memory, and the same steps, to rounding. None for the fastest.
        auto_batch: if memory does not suffice, halve ``micro_batch_size`` and compute the batch
            again, instead of ending with an error.
        rank_timeout: how long one of several processes waits for the others, in a step or to start,
            before it saves what can be saved and ends, with the exit status 75. If PyTorch's
            process group exists already, its own timeout holds.

    Attributes:
        engine: the backend's engine: devices, workers, the optimizer.

    Raises:
        ConfigError, BackendError: a setting or a device that cannot work.
    """

    #: The backend's engine.
    Engine: type[BaseEngine]

    @hinted(beside="fit")
    def __init__(
        self,
        net: Any,
        lr: float | None = None,
        devices: Any = None,
        *,
        recipe: str = "book",
        schedule: str | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        layer_decay: float | None = None,
        label_smoothing: float | None = None,
        average: float | None = None,
        patience: int | None = None,
        seed: int = 0,
        precision: str = "fp32",
        micro_batch_size: int | None = None,
        auto_batch: bool = False,
        rank_timeout: timedelta = RANK_TIMEOUT,
    ) -> None:
        if not isinstance(net, Trainable):
            raise ConfigError(
                f"Trainer() takes a net, not {in_words(net)}; make one with load(path), or with "
                "load_pretrained_model and BERTClassifier"
            )
        check_backend(net, self.Engine.backend, "Trainer() takes a net")
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ConfigError(f"micro_batch_size is {micro_batch_size}; it must be at least 1")
        if label_smoothing and not net.labels:
            raise ConfigError("label_smoothing is for classes, which this net has none of")
        self.net = net
        self.config = TrainingConfig.of_recipe(
            recipe,
            lr=lr,
            schedule=schedule,
            warmup=warmup,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            layer_decay=layer_decay,
            label_smoothing=label_smoothing,
            average=average,
            patience=patience,
            seed=seed,
        )
        net.check_weights()
        limits = Limits(micro_batch_size, auto_batch, rank_timeout)
        self.engine = self.Engine(net, self.config, devices, precision, limits)
        self.workers = self.engine.workers

    def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take one step of Adam on the mean loss of a batch.

        Args:
            batch: labelled pairs; the same batch in each process, which computes its share of it.
            lr: learning rate of this step.
            seed: random seed of this step's dropout.

        Returns:
            The loss and the number of correct predictions of this process's share, computed before
            the weights change. The framework may still be computing the step.

        Raises:
            TrainingError: memory does not suffice.
            RankError: another process is gone.
        """
        return self.engine.step(batch, lr, seed)

    def gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """Compute the gradients of a batch's mean loss, by the tensors' canonical names.

        They are the gradients of `train_step` before clipping; no weight changes.
        """
        return self.engine.mean_gradients(batch, seed)

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """Compute a batch's outputs (B, num_eval_outputs); see `BaseEngine.eval_step`."""
        return self.engine.eval_step(batch)

    @hinted(beside="__init__")
    def fit(
        self,
        train: Data,
        dev: Data | None = None,
        num_epochs: int | None = None,
        batch_size: int | None = None,
        *,
        output: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
        save_every: int | timedelta = SAVE_EVERY,
        keep: int = KEEP,
        progress: bool = True,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        tensorboard: str | Path | None = None,
        observers: Sequence[Observer] = (),
    ) -> History:
        """Train, and evaluate on the dev set after every epoch.

        Args:
            train: the training set, or the framework's own DataLoader over one, whose batches are
                taken in their order.
            dev: the set that the best epoch is chosen by; never the test set, whose score would
                then say nothing of other data.
            num_epochs: the number of passes over the training set; None for the recipe's number,
                which is 5.
            batch_size: pairs in a step, over all devices and processes; a loader brings its own.
                None for the recipe's number, which is 512.
            output: folder for ``best/`` and ``last/`` (checkpoints), ``metrics.jsonl``,
                ``curve.png`` and ``state/``; None writes nothing.
            overwrite: whether to replace an earlier run in ``output``. Other files are kept; if the
                run would write to the name of one, there is an error.
            resume: whether to continue the run in ``output`` from its last state, or start it if
                there is none. Settings and data must not change, except that ``num_epochs`` may
                grow if the learning rate is constant. The weights become bit-identical to those of
                an uninterrupted run on the same kind of machine, with the same number of threads
                and the same versions; otherwise they agree to rounding, and a note on standard
                error says what differs.
            save_every: number of steps, or time, between states within an epoch; a state is also
                written after each epoch.
            keep: number of states to keep.
            progress: show loss, accuracy and pairs/s: a bar on a terminal, a line every 30 seconds
                in a log, a curve that grows in a notebook.
            on_epoch: function that is called with each epoch's record.
            tensorboard: folder for TensorBoard's event files. Needs tensorboardX.
            observers: objects that are called after each step and epoch, in each process; see
                `bertnli.training.observers.Observer`.

        Returns:
            The history; its pairs/s are an average over the training time of each epoch. If weights
            were averaged, the net has their average.

        Raises:
            KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, once the step under way has
                ended and, with ``output``, ``last/`` and ``state/`` have been written. The status
                after SIGTERM is 0, which cluster schedulers expect of a job that they move.
            DataError, ConfigError: sets, settings or a folder that cannot be used, or settings that
                are not those of the run to resume.
            CheckpointError: all states of the run to resume are damaged.
            TrainingError: the loss is not finite, or memory does not suffice.
            RankError: another process is gone; the state was saved if possible.
        """
        config = self.config
        if num_epochs is not None:
            config = replace(config, num_epochs=num_epochs)
        if batch_size is not None:
            config = replace(config, batch_size=batch_size)
        source = self._source(train, "training")
        dev_source = None if dev is None else self._source(dev, "dev")
        num_batches = source.num_batches(config.batch_size)
        total_steps = None if num_batches is None else num_batches * config.num_epochs
        if resume and source.examples is None:
            raise ConfigError(
                "a run over a loader of your own cannot be resumed, for the order of its batches "
                "is not known; give the data set itself"
            )
        if total_steps is None and config.depends_on_length:
            raise ConfigError(
                "a schedule, or average, needs the number of steps, and this loader has no length"
            )
        if config.patience and dev is None:
            raise ConfigError("patience needs a dev set, whose accuracy it waits for")
        settings = settings_of(self.net, config, source, dev_source)
        self.workers.set_exit_together(together=False)
        self.workers.check_same([settings, config.num_epochs, str(output), resume])
        folder = RunFolder(output, self.engine, settings, overwrite, resume, save_every, keep)
        watching = [*observers]
        if progress and self.workers.is_first:
            num_pairs = None if source.examples is None else len(source.examples)
            watching.append(progress_observer(config.num_epochs, num_pairs))
        if tensorboard is not None:  # in the first process; all raise its error
            can_exist = overwrite or resume
            self.workers.on_rank0(lambda: watching.append(TensorBoard(tensorboard, can_exist)))
        if on_epoch is not None:
            watching.append(EpochCallback(on_epoch))
        # Both frameworks' loaders have the data set under one of these names.
        loader_set = getattr(train, "dataset", getattr(train, "_dataset", None))
        self.net.learns_from(source.examples or loader_set)
        steps = self.train_step, self.eval_step
        loop = Loop(self.engine, *steps, config, total_steps, source, dev_source, folder, watching)
        return loop.run()

    def evaluate(self, data: Data, batch_size: int = EVAL_BATCH_SIZE) -> Any:
        """Score the net on a set: a classifier's `Metrics`, else `PretrainingMetrics`.

        Args:
            data: a dataset, or the framework's own DataLoader over one.
            batch_size: pairs computed at a time; a loader brings its own.
        """
        batches = self._source(data, "evaluation").eval_batches(batch_size)
        return evaluate(self.engine, self.eval_step, batches)

    @hinted(ONE_LIST)
    def predict(self, pairs: Iterable[tuple[str, str]], **options: Any) -> list[Prediction]:
        """Predict the class of each pair of raw sentences; see `Classifier.predict`."""
        if not isinstance(self.net, Classifier):
            raise ConfigError("only a classifier predicts the classes of pairs")
        return self.net.predict(pairs, **options)

    def _source(self, data: Data, what: str) -> Source:
        """Check a data set, which messages call ``what``, and return it as a `Source`."""
        source = Source(data, self.net, self.engine.loader_batch)
        source.check(what, self.workers.size)
        return source
