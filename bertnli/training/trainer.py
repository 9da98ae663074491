"""Training: epochs, evaluation, checkpoints, on the engine of a backend."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.bert.config import TrainingConfig
from bertnli.data.batches import Batch
from bertnli.data.corpus import ONE_LIST
from bertnli.errors import ConfigError, DataError
from bertnli.nets.classifier import Classifier, Prediction
from bertnli.nets.metrics import Score
from bertnli.nets.trainable import Trainable, check_backend, in_words
from bertnli.training.engine import BaseEngine, Limits, StepResult
from bertnli.training.history import EpochRecord, History
from bertnli.training.observers import Observer, progress_observer, watched
from bertnli.training.observers.tensorboard import TensorBoard
from bertnli.training.recipe import smoothed
from bertnli.training.run import KEEP, SAVE_EVERY, RunFolder, StopRequest, stop_between_steps
from bertnli.training.sets import Data, Source
from bertnli.training.settings import NOTES, SETS, notes_of
from bertnli.training.state import EpochProgress, TrainingState
from bertnli.training.watch import RANK_TIMEOUT, checked


class Trainer:
    """Trains a net with Adam on the mean loss of each batch.

    Args:
        net: a classifier, or a BERT to pretrain.
        lr: learning rate (the peak, where a schedule is chosen); None for the recipe's.
        devices: devices or their names; None for all GPUs or else the CPU. Each batch is split over
            them; the loss stays the mean over the whole batch. Where `torchrun` or `bertnli launch`
            started several processes, each batch is first split over these.
        recipe: what holds of the settings that are None: ``"book"``, with everything off, or
            ``"best"``; see `bertnli.bert.config.RECIPES`.
        schedule, warmup, weight_decay, clip_norm, layer_decay, label_smoothing, average, patience:
            see `TrainingConfig`.
        seed: order of the data and dropout are functions of (seed, epoch, step).
        precision: what matrix products are computed in: ``"fp32"``, ``"bf16"``, or ``"auto"``:
            bf16 where the hardware has it. Weights, losses, softmax and layer normalisation
            stay in float32. The net keeps the setting. ``"fp32"`` unless asked for: a run repeats
            on another machine, and only its user knows whether bf16's rounding matters.
        micro_batch_size: pairs of a batch that a process computes together, at most; the gradients
            of a batch's parts add up, and the step is the same, to rounding, in less memory. None
            for as many as is fastest.
        auto_batch: where memory does not suffice, halve ``micro_batch_size`` and compute the batch
            again, instead of ending with an error.
        rank_timeout: of several processes: how long one may be silent, or hold the others up,
            before these save what can be saved and end, with the exit status 75.

    Attributes:
        engine: what computes: devices, workers, the optimizer.

    Raises:
        ConfigError, BackendError: a setting or a device that cannot work.
    """

    #: What computes, of its backend.
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
        limits = Limits(micro_batch_size, auto_batch, checked(rank_timeout))
        self.engine = self.Engine(net, self.config, devices, precision, limits)
        self.workers = self.engine.workers

    def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take one step of Adam on the mean loss of a batch.

        Args:
            batch: with labels; the same in each process, which computes its share of it.
            lr: learning rate of this step.
            seed: of this step's dropout.

        Returns:
            What this process's share gave before the step; the step may still be under way.

        Raises:
            TrainingError: memory does not suffice.
            RankError: another process is gone.
        """
        return self.engine.step(batch, lr, seed)

    def gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """Return the gradients of a batch's mean loss under the tensors' canonical names.

        What `train_step` computes before it clips them and updates; nothing is updated.
        """
        return self.engine.mean_gradients(batch, seed)

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """Return a batch's outputs (B, num_eval_outputs); see `BaseEngine.eval_step`."""
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
            train: the training set, or the framework's own DataLoader over one (its batches and
                their order are then taken as they come).
            dev: what to watch and to choose by; never the test set, whose score would then say
                nothing of other data.
            num_epochs: passes over the training set; None for the recipe's, 5.
            batch_size: pairs in a step, over all devices and processes; a loader brings its own.
                None for the recipe's, 512.
            output: folder for ``best/`` and ``last/`` (checkpoints), ``metrics.jsonl``,
                ``curve.png`` and ``state/``; nothing is written without it.
            overwrite: replace the run that ``output`` holds already, which is refused otherwise.
                What no run wrote is left as it is, or refused where a run writes to its name.
            resume: go on where the run in ``output`` was stopped, by whatever it was; from the
                start if nothing is there. Settings and data must be the same; more epochs may be
                asked for where the schedule is constant. The weights become those of an
                uninterrupted run to the bit on the same kind of machine, with as many threads and
                the same versions; elsewhere to rounding, and a note on standard error says what
                differs.
            save_every: steps, or time, after which ``state/`` is written anew while an epoch is
                under way; it is after every epoch.
            keep: how many of these states to keep, 1 or more.
            progress: show loss, accuracy and pairs/s as they come: on a terminal as a bar, in a
                log as a line every 30 seconds, in a notebook as a curve that grows.
            on_epoch: called with each epoch's record.
            tensorboard: folder for TensorBoard's event files; a run that goes on has no event
                twice. Needs tensorboardX.
            observers: told of each step and epoch, in each process; see
                `bertnli.training.observers.Observer`.

        Returns:
            The history; its pairs/s count all of an epoch's training time. Where weights were
            averaged, the net has their average.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the step under way has ended and, with ``output``,
                ``last/`` and ``state/`` have been written.
            SystemExit: the same after SIGTERM, with the status 0, as a cluster's scheduler wants it
                of a job that it moves.
            DataError: an empty set, labels missing, a vocabulary that is not the model's.
            ConfigError: settings that cannot be, or are not those of the run to resume; a folder
                that another run has used.
            BackendError: ``tensorboard`` without tensorboardX.
            CheckpointError: no state of the run to resume is whole.
            TrainingError: the loss is not a number any more, or memory does not suffice.
            RankError: another process is gone; the state was saved, if it was whole.
        """
        config = self.config
        num_epochs = config.num_epochs if num_epochs is None else num_epochs
        batch_size = config.batch_size if batch_size is None else batch_size
        config = replace(config, num_epochs=num_epochs, batch_size=batch_size)
        source = self._source(train, "training")
        dev_source = None if dev is None else self._source(dev, "dev")
        if resume and source.examples is None:
            raise ConfigError(
                "a run over a loader of your own cannot be resumed, for the order of its batches "
                "is not known; give the data set itself"
            )
        several = self.workers.size > 1
        settings = (
            self._settings(source, dev_source, config) if output is not None or several else {}
        )
        self.workers.set_exit_together(together=False)
        self.workers.check_same([settings, num_epochs, str(output), resume])
        run = RunFolder(output, self.engine, settings, overwrite, resume, save_every, keep)
        num_batches = source.num_batches(batch_size)
        total = None if num_batches is None else num_batches * num_epochs
        if total is None and config.depends_on_length:
            raise ConfigError(
                "a schedule, or average, needs the number of steps, and this loader has no length"
            )
        if config.patience and dev is None:
            raise ConfigError("patience needs a dev set, whose accuracy it waits for")
        watching = list(observers)
        if progress and self.workers.is_first:
            num_pairs = None if source.examples is None else len(source.examples)
            watching.append(progress_observer(num_epochs, num_pairs))
        if tensorboard is not None:  # also the other processes hear of what is wrong with it
            replace_old = overwrite or resume
            self.workers.on_rank0(lambda: watching.append(TensorBoard(tensorboard, replace_old)))
        self.net.learns_from(source.examples or self.engine.loader_set(train))
        watch = self.workers.watch
        with run, watched(watching) as observer:
            self.engine.weight_average.load_arrays({})
            state = run.start()
            observer.on_start(state)
            # A launcher that ends all must not end the first one while it saves.
            with stop_between_steps() as stop, watch.saving(run.remains):
                history = state.history
                while len(history.epochs) < num_epochs and not history.has_stalled(config.patience):
                    self._train_epoch(source, config, total, state, run, observer, stop)
                    observer.on_epoch_end(state)
                    watch.at("evaluating")
                    if (
                        not self.engine.weight_average.count
                    ):  # else the net has other weights meanwhile
                        watch.rest(lambda: run.save_for_all(state))
                    record = self._finished_epoch(state, dev_source, observer, stop)
                    watch.go_on()
                    watch.at("saving")
                    if record is None:
                        run.save_state(state)
                        run.save_last()
                        self._leave()
                        self.engine.weight_average.finish()
                        stop.leave()
                    else:
                        history.epochs.append(record)
                        state.progress = EpochProgress()
                        run.save_epoch(state)
                        observer.on_epoch(state)
                        if on_epoch is not None:
                            on_epoch(record)
                self._leave()
            self.engine.weight_average.finish()
        return history

    def _leave(self) -> None:
        """Barrier: wait until rank 0 has written its files."""
        self.workers.barrier()
        self.workers.set_exit_together(together=True)

    def _train_epoch(
        self,
        train: Source,
        config: TrainingConfig,
        total: int | None,
        state: TrainingState,
        run: RunFolder,
        observer: Observer,
        stop: StopRequest,
    ) -> None:
        """Take the steps of an epoch that are left, or those until a stop is asked for."""
        epoch, so_far = len(state.history.epochs), state.progress
        waiting: deque[tuple[StepResult, Batch]] = deque()
        watch = self.workers.watch
        pause = False

        def gather(finished: tuple[StepResult, Batch] | None = None) -> None:
            """Add up what a step gave in all processes, and whether a state is to be saved."""
            nonlocal pause
            loss_sum, num_correct = (0.0, 0) if finished is None else finished[0].read()
            due = run.is_due(state.step + len(waiting) + (finished is not None))
            sums = self.workers.sum(np.array([loss_sum, num_correct, due, *stop.votes()]))
            watch.go_on()
            if finished is not None:
                batch = finished[1]
                run.check_loss(float(sums[0]), batch, state)
                state.history.step_losses.append(float(sums[0]) / len(batch))
                so_far.steps += 1
                so_far.loss_sum += float(sums[0])
                so_far.num_correct += float(sums[1])
                so_far.num_pairs += len(batch)
                so_far.seconds = time.perf_counter() - start
                if not several:
                    observer.on_step(state)
            pause = stop.count(sums[3:]) or bool(sums[2])

        def settle(result: StepResult) -> None:
            gather((result, batch))

        observer.on_epoch_start(state)
        start = time.perf_counter() - so_far.seconds
        batches_left = train.train_batches(config.batch_size, config.seed, epoch, so_far.steps)
        several = self.workers.size > 1
        watch.at(f"reading the batch of step {state.step + 1}")
        watch.rest(lambda: run.save_for_all(state))
        for step, batch in enumerate(batches_left, state.step):
            watch.at(f"taking step {step + 1}")
            lr = config.lr if total is None else config.lr_at(step, total)
            seed = _step_seed(config.seed, step, self.workers.rank)
            batch = smoothed(batch, config.label_smoothing, len(self.net.labels))
            # Of several, before the weights change: where one is lost, they fit the history.
            with self.engine.settled(settle if several else None):
                result = self.train_step(batch, lr, seed)
            if total is not None and config.averages_at(step, total):
                self.engine.weight_average.update()
            if several:
                observer.on_step(state)
            else:  # a step behind, so that the framework never waits for us
                waiting.append((result, batch))
                gather(waiting.popleft() if len(waiting) > 1 else None)
            if pause:
                while waiting:
                    gather(waiting.popleft())
                so_far.seconds = time.perf_counter() - start
                if stop.requested:
                    return
                watch.at("saving")
                run.save_state(state)
            watch.at(f"reading the batch of step {step + 2}")
            watch.rest(lambda: run.save_for_all(state))
        watch.go_on()
        while waiting:
            gather(waiting.popleft())
        so_far.seconds = time.perf_counter() - start
        if not so_far.num_pairs:
            raise DataError("the training loader gave no batch; is it used up, or its set empty?")

    def _finished_epoch(
        self, state: TrainingState, dev: Source | None, observer: Observer, stop: StopRequest
    ) -> EpochRecord | None:
        """Return the record of the epoch that was trained; None if a stop is asked for."""
        done = state.progress
        start = time.perf_counter()
        score = None
        if not stop.requested and not stop.count(self.workers.sum(stop.votes())):
            with self.engine.weight_average.in_place():
                if dev is not None:
                    done_batch = partial(observer.on_dev_batch, state)
                    score = self._evaluated(dev, 256, stop, done_batch)
        if stop.requested:
            return None
        return EpochRecord(
            epoch=len(state.history.epochs) + 1,
            steps=state.step,
            train_loss=done.loss_sum / done.num_pairs,
            train_accuracy=done.num_correct / done.num_pairs,
            dev_loss=None if score is None else score.loss,
            dev_accuracy=None if score is None else score.accuracy,
            pairs_per_second=done.num_pairs / done.seconds,
            train_seconds=done.seconds,
            dev_seconds=0.0 if score is None else time.perf_counter() - start,
        )

    def evaluate(self, data: Data, batch_size: int = 256) -> Any:
        """Return the score on a set: of a classifier `Metrics`, else `PretrainingMetrics`.

        Args:
            data: a dataset, or the framework's own DataLoader over one.
            batch_size: pairs computed at a time; a loader brings its own.
        """
        source = self._source(data, "evaluation")
        score = self._evaluated(source, batch_size, StopRequest(), lambda num_pairs: None)
        assert score is not None
        return score

    def _evaluated(
        self, data: Source, batch_size: int, stop: StopRequest, watch: Callable[[int], None]
    ) -> Score | None:
        """Return the score on a set; None if a stop is asked for on the way.

        Each process computes every so manyth batch, and all get the score of the whole.

        Args:
            data: the set.
            batch_size: pairs computed at a time; a loader brings its own.
            stop: whether to stop.
            watch: called after each batch with the number of pairs by then.
        """
        workers = self.workers
        eval_outputs, labels, num_pairs = [], [], 0
        for i, batch in enumerate(data.eval_batches(batch_size)):
            turn = i % workers.size
            labels.append(batch.labels)
            nothing = np.zeros((len(batch), self.net.num_eval_outputs), np.float32)
            eval_outputs.append(self.eval_step(batch) if turn == workers.rank else nothing)
            num_pairs += len(batch)
            watch(num_pairs)
            if turn == workers.size - 1 and stop.count(workers.sum(stop.votes())):
                return None
        if not eval_outputs:
            raise DataError("the evaluation loader gave no batch; is it used up, or its set empty?")
        whole = np.concatenate(eval_outputs)
        whole = workers.sum(whole.ravel()).reshape(whole.shape)
        return self.net.score(whole, np.concatenate(labels))

    @hinted(ONE_LIST)
    def predict(self, pairs: Iterable[tuple[str, str]], **options: Any) -> list[Prediction]:
        """Return the class of each pair of raw sentences; see `Classifier.predict`."""
        if not isinstance(self.net, Classifier):
            raise ConfigError("only a classifier predicts the classes of pairs")
        return self.net.predict(pairs, **options)

    def _source(self, data: Data, what: str) -> Source:
        """Validate the data and wrap it in a `Source`."""
        source = Source(data, self.net, self.engine.loader_batch)
        source.check(what, self.workers.size)
        return source

    def _settings(
        self, train: Source, dev: Source | None, config: TrainingConfig
    ) -> dict[str, Any]:
        """Return what a run that goes on must have the same."""
        found = {**asdict(config), **self.net.config.to_dict(), "labels": list(self.net.labels)}
        found["precision"] = self.net.precision
        sets = dict(zip(SETS, (train, dev), strict=True))
        for name, data in sets.items():
            found[name] = None if data is None else data.name()
        found[NOTES] = notes_of(sets, self.net.vocab)
        if not config.depends_on_length:
            del found["num_epochs"]  # nothing before the end depends on it
        return found


def _step_seed(seed: int, step: int, rank: int) -> int:
    parts = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(parts).generate_state(1)[0] & 0x7FFFFFFF)
