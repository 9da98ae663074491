"""The names of the chapter's PyTorch tab: ``from bertnli.d2l import torch as d2l``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bertnli.backends.torch import heads
from bertnli.backends.torch.devices import device_of
from bertnli.backends.torch.devices import try_all_gpus as try_all_gpus
from bertnli.backends.torch.devices import try_gpu as try_gpu
from bertnli.d2l import book
from bertnli.d2l.book import *  # noqa: F403

_downloads = book.Downloads("torch")
DATA_HUB, download = _downloads.hub, _downloads.download
download_extract = _downloads.download_extract


class BERTModel(book.BySizes, heads.BERTModel):
    """The book's BERT with its two pretraining heads; arguments as in `bertnli.BERTConfig`."""


def accuracy(y_hat: Tensor, y: Tensor) -> float:
    """Count correct predictions: y_hat, (B, classes) scores or (B,) classes, against y, (B,)."""
    if y_hat.ndim > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.argmax(1)
    return float((y_hat.to(y.dtype) == y).sum())


def _to(X: Any, device: Any) -> Any:
    return [x.to(device) for x in X] if isinstance(X, (list, tuple)) else X.to(device)


def evaluate_accuracy_gpu(net: Any, data_iter: Any, device: Any = None) -> float:
    """Return the share of correct predictions over batches (X, y); leaves net in eval mode.

    X is a tensor or a list of tensors. Without a device, that of the net's parameters is used.
    """
    if isinstance(net, nn.Module):
        net.eval()
        device = device or device_of(net)
    sums = book.Accumulator(2)
    with torch.no_grad():
        for X, y in data_iter:
            sums.add(accuracy(net(_to(X, device)), y.to(device)), y.numel())
    return sums[0] / sums[1]


def train_batch_ch13(
    net: nn.Module, X: Any, y: Tensor, loss: Any, trainer: Any, devices: Any
) -> tuple[Tensor, float]:
    """Make a step on a batch (X, y); return the sum of its losses and its correct predictions.

    X is a tensor or a list of tensors; ``loss`` gives the loss of each example; ``trainer`` is an
    optimizer of PyTorch, which gets the gradients of the sum.
    """
    X, y = _to(X, devices[0]), y.to(devices[0])
    net.train()
    trainer.zero_grad()
    y_hat = net(X)
    total = loss(y_hat, y).sum()
    total.backward()
    trainer.step()
    return total.detach(), accuracy(y_hat, y)


def train_ch13(
    net: nn.Module,
    train_iter: Any,
    test_iter: Any,
    loss: Any,
    trainer: Any,
    num_epochs: int,
    devices: Any = None,
) -> None:
    """Train and test by `train_batch_ch13`, on several GPUs with DataParallel; print the scores.

    Without devices, it takes all GPUs, or the CPU. In a notebook it draws the curves meanwhile.
    """
    devices = devices or try_all_gpus()
    model = nn.DataParallel(net, devices) if len(devices) > 1 else net
    model.to(devices[0])

    def train_batch(X: Any, y: Tensor) -> tuple[Tensor, float]:
        return train_batch_ch13(model, X, y, loss, trainer, devices)

    def test() -> float:
        return evaluate_accuracy_gpu(model, test_iter)

    book.train_epochs(train_iter, num_epochs, devices, train_batch, test)
