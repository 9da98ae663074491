"""The names of the chapter's MXNet tab: ``from bertnli.d2l import mxnet as d2l``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bertnli.backends.mxnet import heads
from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.bert import Tensor, use_np
from bertnli.backends.mxnet.devices import devices_of
from bertnli.backends.mxnet.devices import try_all_gpus as try_all_gpus
from bertnli.backends.mxnet.devices import try_gpu as try_gpu
from bertnli.d2l import book
from bertnli.d2l.book import *  # noqa: F403

_downloads = book.Downloads("mxnet")
DATA_HUB, download = _downloads.hub, _downloads.download
download_extract = _downloads.download_extract


@use_np
class BERTModel(book.BySizes, heads.BERTModel):
    """The book's BERT with its two pretraining heads; arguments as in `bertnli.BERTConfig`."""


def accuracy(y_hat: Tensor, y: Tensor) -> float:
    """Count correct predictions: y_hat, (B, classes) scores or (B,) classes, against y, (B,)."""
    if y_hat.ndim > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.argmax(axis=1)
    return float((y_hat.astype(y.dtype) == y).sum())


def split_batch(X: Any, y: Tensor, devices: Sequence[Any]) -> tuple[Any, Any]:
    """Split a batch (X, y) evenly over devices: return the parts of X, and those of y.

    If X is a list of inputs, the batch is split as by `split_batch_multi_inputs`.
    """
    if isinstance(X, (list, tuple)):
        return split_batch_multi_inputs(X, y, devices)
    return tuple(mx.gluon.utils.split_and_load(part, devices) for part in (X, y))


def split_batch_multi_inputs(X: Sequence[Any], y: Tensor, devices: Any) -> tuple[Any, Any]:
    """Split a batch of several inputs X, of any size: return each device's inputs, and its labels.

    The inputs of a device are a tuple.
    """
    split = mx.gluon.utils.split_and_load
    *X, y = (split(part, devices, even_split=False) for part in (*X, y))
    return list(zip(*X, strict=True)), y


def evaluate_accuracy_gpus(net: Any, data_iter: Any, split_f: Callable = split_batch) -> float:
    """Return the share of correct predictions over batches (X, y), split over the net's devices."""
    devices, sums = devices_of(net), book.Accumulator(2)
    for X, y in data_iter:
        for part, labels in zip(*split_f(X, y, devices), strict=True):
            sums.add(accuracy(net(part), labels), labels.size)
    return sums[0] / sums[1]


def evaluate_accuracy_gpu(net: Any, data_iter: Any, device: Any = None) -> float:
    """Return the share of correct predictions over batches (X, y), on one of the net's devices."""

    def on_device(X: Any, y: Tensor, devices: Sequence[Any]) -> tuple[Any, Any]:
        return split_batch(X, y, [device or devices[0]])

    return evaluate_accuracy_gpus(net, data_iter, on_device)


def train_batch_ch13(
    net: Any,
    features: Any,
    labels: Tensor,
    loss: Any,
    trainer: Any,
    devices: Any,
    split_f: Callable = split_batch,
) -> tuple[float, float]:
    """Make a step on a batch; return the sum of its losses and its correct predictions.

    ``loss`` gives the loss of each example; ``trainer`` is a Trainer of gluon, which gets the
    gradients of the mean.
    """
    parts = list(zip(*split_f(features, labels, devices), strict=True))
    with mx.autograd.record():
        outputs = [net(X) for X, _ in parts]
        losses = [loss(y_hat, y) for y_hat, (_, y) in zip(outputs, parts, strict=True)]
    mx.autograd.backward(losses)
    trainer.step(len(labels), ignore_stale_grad=True)
    correct = sum(accuracy(y_hat, y) for y_hat, (_, y) in zip(outputs, parts, strict=True))
    return sum(float(part.sum()) for part in losses), correct


def train_ch13(
    net: Any,
    train_iter: Any,
    test_iter: Any,
    loss: Any,
    trainer: Any,
    num_epochs: int,
    devices: Any = None,
    split_f: Callable = split_batch,
) -> None:
    """Train and test by `train_batch_ch13`, each device on a part of a batch; print the scores.

    Without devices, it takes all GPUs, or the CPU. In a notebook it draws the curves meanwhile.
    """
    devices = devices or try_all_gpus()

    def train_batch(X: Any, y: Tensor) -> tuple[float, float]:
        return train_batch_ch13(net, X, y, loss, trainer, devices, split_f)

    def test() -> float:
        return evaluate_accuracy_gpus(net, test_iter, split_f)

    book.train_epochs(train_iter, num_epochs, devices, train_batch, test)
