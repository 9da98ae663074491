"""Fine-tuning: epochs, evaluation, checkpoints. The backends add what touches tensors."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from bertnli.backends.interface import Classifier, Prediction
from bertnli.checkpoints.native import is_native
from bertnli.config import TrainingConfig
from bertnli.data.batches import Batch, batches, sorted_batches
from bertnli.data.dataset import PairDataset
from bertnli.errors import BackendError, ConfigError, DataError
from bertnli.labels import label_permutation
from bertnli.training.history import EpochRecord, History
from bertnli.training.metrics import Metrics

#: A dataset of bertnli, or the framework's own DataLoader over one.
Data = PairDataset | Iterable


class StepResult:
    """What a training step's batch gave, once it is asked for: reading waits for the step.

    Args:
        read: gives the sum of the pairs' losses, in nats, and the number classified right.
    """

    def __init__(self, read: Callable[[], tuple[float, int]]) -> None:
        self._read = read

    def read(self) -> tuple[float, int]:
        """Return the sum of the pairs' losses, in nats, and the number classified right."""
        return self._read()


class BaseTrainer(ABC):
    """Trains a classifier with Adam on the mean loss of each batch.

    Args:
        net: the classifier.
        lr: learning rate (the peak, where a schedule is chosen).
        devices: devices or their names; None for all GPUs or else the CPU. Each batch is split over
            them; the loss stays the mean over the whole batch.
        schedule: ``"constant"`` or ``"linear"`` (falls to 0 at the end of the run).
        warmup: fraction of all steps over which the rate rises linearly.
        seed: order of the data and dropout are functions of (seed, epoch, step).
        precision: what matrix products are computed in: ``"fp32"``, ``"bf16"``, or ``"auto"``:
            bf16 where the hardware has it. Weights, losses, softmax and layer normalisation
            stay in float32. The net keeps the setting.

    Attributes:
        precision_reason: why that precision, where there is something to say.

    Raises:
        ConfigError, BackendError: a setting or a device that cannot work.
    """

    net: Classifier
    precision_reason: str

    def __init__(
        self,
        net: Any,
        lr: float = 1e-4,
        devices: Any = None,
        *,
        schedule: str = "constant",
        warmup: float = 0.0,
        seed: int = 0,
        precision: str = "fp32",
    ) -> None:
        self.net = net
        self.config = TrainingConfig(lr, schedule=schedule, warmup=warmup, seed=seed)
        self._prepare(devices, precision)

    @abstractmethod
    def _prepare(self, devices: Any, precision: str) -> None:
        """Move the net to the devices, set its precision and make the optimizer."""

    @abstractmethod
    def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take one step of Adam on the mean loss of a batch.

        Args:
            batch: with labels.
            lr: learning rate of this step.
            seed: of this step's dropout.

        Returns:
            What the batch gave before the step; the step may still be under way.
        """

    @abstractmethod
    def gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """Return the gradients of a batch's mean loss under the tensors' canonical names.

        What `train_step` computes before its update; nothing is updated.
        """

    @abstractmethod
    def apply_gradients(self, gradients: Mapping[str, NDArray], lr: float) -> None:
        """Take the step of Adam that `train_step` would take with these gradients."""

    @abstractmethod
    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """Return the logits (B, labels) of a batch without dropout, computed on all devices."""

    @abstractmethod
    def loader_batch(self, item: Any) -> Batch:
        """Return the Batch of one item of the framework's own DataLoader."""

    def fit(
        self,
        train: Data,
        dev: Data | None = None,
        num_epochs: int = 5,
        batch_size: int = 512,
        *,
        output: str | Path | None = None,
        overwrite: bool = False,
        progress: bool = True,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> History:
        """Train, and evaluate on the dev set after every epoch.

        Args:
            train: the training set, or the framework's own DataLoader over one (its batches and
                their order are then taken as they come).
            dev: what to watch and to choose by; never the test set.
            num_epochs: passes over the training set.
            batch_size: pairs in a step, over all devices; a loader brings its own.
            output: folder for ``best/`` and ``last/`` (checkpoints), ``metrics.jsonl`` and
                ``curve.png``; nothing is written without it.
            overwrite: replace the run that ``output`` holds already, which is refused otherwise.
            progress: show a bar with loss, accuracy and pairs/s.
            on_epoch: called with each epoch's record.

        Returns:
            The history; its pairs/s count all of an epoch's training time.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the step under way has ended and, with ``output``,
                ``last/`` has been written.
            DataError: an empty set, labels missing, a vocabulary that is not the model's.
        """
        config = replace(self.config, num_epochs=num_epochs, batch_size=batch_size)
        self._check_data(train, "training")
        if dev is not None:
            self._check_data(dev, "dev")
        run = _RunFolder(output, self.net, overwrite)
        history = History()
        num_batches = self._num_batches(train, batch_size)
        total = None if num_batches is None else num_batches * num_epochs
        if total is None and (config.schedule != "constant" or config.warmup):
            raise ConfigError(
                "a schedule needs to know the number of steps, and this loader has no length"
            )
        with _stop_between_steps() as stop_requested:
            for epoch in range(num_epochs):
                self._train_epoch(train, config, epoch, total, history, progress, stop_requested)
                if stop_requested():
                    run.save_last()
                    raise KeyboardInterrupt
                if dev is not None:
                    self._add_dev_score(history, dev)
                run.save_epoch(history)
                if on_epoch is not None:
                    on_epoch(history.epochs[-1])
        return history

    def _train_epoch(
        self,
        train: Data,
        config: TrainingConfig,
        epoch: int,
        total: int | None,
        history: History,
        progress: bool,
        stop_requested: Callable[[], bool],
    ) -> None:
        loss_sum, num_correct, num_pairs = 0.0, 0, 0
        waiting: deque[tuple[StepResult, int]] = deque()

        def read() -> None:
            nonlocal loss_sum, num_correct, num_pairs
            result, size = waiting.popleft()
            step_loss, step_correct = result.read()
            history.step_losses.append(step_loss / size)
            loss_sum += step_loss
            num_correct += step_correct
            num_pairs += size
            bar.set_postfix_str(
                f"loss {loss_sum / num_pairs:.3f}, acc {num_correct / num_pairs:.3f}",
                refresh=False,
            )
            bar.update(size)

        first_step = len(history.step_losses)
        start = time.perf_counter()
        bar = tqdm(
            total=len(train) if isinstance(train, PairDataset) else None,
            desc=f"epoch {epoch + 1}/{config.num_epochs}",
            unit="pair",
            disable=None if progress else True,
        )
        with bar:
            for step, batch in enumerate(self._train_batches(train, config, epoch), first_step):
                lr = config.lr if total is None else config.lr_at(step, total)
                result = self.train_step(batch, lr, _step_seed(config.seed, step))
                waiting.append((result, len(batch)))
                if len(waiting) > 1:  # a step behind, so that the framework never waits for us
                    read()
                if stop_requested():
                    break
            while waiting:
                read()
            if stop_requested():
                return
        if not num_pairs:
            raise DataError("the training loader gave no batch; is it used up, or its set empty?")
        seconds = time.perf_counter() - start
        history.epochs.append(
            EpochRecord(
                epoch=epoch + 1,
                steps=len(history.step_losses),
                train_loss=loss_sum / num_pairs,
                train_accuracy=num_correct / num_pairs,
                dev_loss=None,
                dev_accuracy=None,
                pairs_per_second=num_pairs / seconds,
                train_seconds=seconds,
                dev_seconds=0.0,
            )
        )

    def _add_dev_score(self, history: History, dev: Data) -> None:
        start = time.perf_counter()
        score = self.evaluate(dev)
        history.epochs[-1] = replace(
            history.epochs[-1],
            dev_loss=score.loss,
            dev_accuracy=score.accuracy,
            dev_seconds=time.perf_counter() - start,
        )

    def evaluate(self, data: Data, batch_size: int = 256) -> Metrics:
        """Return accuracy, loss, per-class scores and confusion matrix on a labelled set.

        Args:
            data: a dataset, or the framework's own DataLoader over one.
            batch_size: pairs computed at a time; a loader brings its own.
        """
        self._check_data(data, "evaluation")
        logits, labels = [], []
        for batch in self._eval_batches(data, batch_size):
            logits.append(self.eval_step(batch))
            labels.append(batch.labels)
        if not logits:
            raise DataError("the evaluation loader gave no batch; is it used up, or its set empty?")
        return Metrics.from_logits(self.net.labels, np.concatenate(logits), np.concatenate(labels))

    def predict(self, pairs: Iterable[tuple[str, str]], **options: Any) -> list[Prediction]:
        """Return the class of each pair of raw sentences; see `Classifier.predict`."""
        return self.net.predict(pairs, **options)

    def _train_batches(self, data: Data, config: TrainingConfig, epoch: int) -> Iterator[Batch]:
        if isinstance(data, PairDataset):
            found = batches(data, config.batch_size, seed=config.seed, epoch=epoch, shuffle=True)
            return self._relabelled(found, data)
        return (self.loader_batch(item) for item in data)

    def _eval_batches(self, data: Data, batch_size: int) -> Iterator[Batch]:
        if isinstance(data, PairDataset):
            return self._relabelled((b for _, b in sorted_batches(data, batch_size)), data)
        return (self.loader_batch(item) for item in data)

    def _relabelled(self, found: Iterable[Batch], data: PairDataset) -> Iterator[Batch]:
        """Give the classes of the dataset the ids that the net has for their names."""
        ids = label_permutation(self.net.labels, data.label_names).astype(np.int32)
        return (replace(batch, labels=ids[batch.labels]) for batch in found)

    def _num_batches(self, data: Data, batch_size: int) -> int | None:
        if isinstance(data, PairDataset):
            return -(-len(data) // batch_size)
        return len(data) if isinstance(data, Sized) else None

    def _check_data(self, data: Data, what: str) -> None:
        if not isinstance(data, PairDataset):
            return
        if len(data) == 0:
            raise DataError(f"the {what} set is empty")
        label_permutation(self.net.labels, data.label_names)  # refuses other names
        if int(data.labels.min()) < 0 or int(data.labels.max()) >= len(data.label_names):
            raise DataError(
                f"the {what} set has label ids from {data.labels.min()} to {data.labels.max()}; "
                f"its classes are 0 to {len(data.label_names) - 1}, {list(data.label_names)}"
            )
        if self.net.vocab is not None and data.vocab.idx_to_token != self.net.vocab.idx_to_token:
            raise DataError(
                f"the {what} set was encoded with another vocabulary than the model's; encode it "
                "with net.vocab"
            )
        if len(data.vocab) > self.net.config.vocab_size:
            raise DataError(
                f"the {what} set's vocabulary has {len(data.vocab)} tokens, the model "
                f"{self.net.config.vocab_size}"
            )


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0] & 0x7FFFFFFF)


class _RunFolder:
    """The files of a run, where the user wants any."""

    def __init__(self, path: str | Path | None, net: Classifier, overwrite: bool) -> None:
        self.path = None if path is None else Path(path)
        self.net = net
        if self.path is None:
            return
        net.required_vocab()  # a run that cannot be saved is refused before it trains
        if is_native(self.path) and not overwrite:
            raise ConfigError(
                f"{self.path} holds the checkpoints of an earlier run; choose another folder, or "
                "ask to overwrite it (--overwrite)"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in ("best", "last"):
                if is_native(self.path / name):
                    shutil.rmtree(self.path / name)
            (self.path / "metrics.jsonl").write_text("")
        except OSError as error:
            raise ConfigError(f"the output folder {self.path} cannot be used: {error}") from error

    def save_last(self) -> None:
        if self.path is not None:
            self.net.save(self.path / "last")

    def save_epoch(self, history: History) -> None:
        if self.path is None:
            return
        history.append_line(self.path / "metrics.jsonl")
        if history.best is history.epochs[-1]:
            self.net.save(self.path / "best")
        self.save_last()
        try:
            history.plot(self.path / "curve.png")
        except BackendError as error:
            if len(history.epochs) == 1:
                tqdm.write(f"no curve.png: {error}", file=sys.stderr)


@contextmanager
def _stop_between_steps() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop after the step under way.

    A step that is broken off would leave some tensors updated and others not. A second Ctrl-C
    interrupts at once. Outside the main thread no handler can be set, and none is.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    previous = signal.getsignal(signal.SIGINT)

    def request(signum: int, frame: Any) -> None:
        requested.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, request)
    try:
        yield requested.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
