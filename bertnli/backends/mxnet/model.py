"""BERT, its pretraining and the NLI classifier on Apache MXNet.

They combine the layers of `heads` with the classes of `bertnli.nets`, which both backends share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet import heads, layers
from bertnli.backends.mxnet._framework import device_of, move_parameters, mx
from bertnli.backends.mxnet.bert import Tensor, nn, use_np
from bertnli.backends.mxnet.devices import as_nd, devices_of, to_device
from bertnli.data.batches import Batch
from bertnli.formats import names
from bertnli.nets.classifier import Classifier
from bertnli.nets.pretraining import BERTNet, PretrainingNet
from bertnli.nets.trainable import Net


class MXNetNet(Net, nn.Block):
    """Implements, for MXNet's arrays, the functions that `Net` declares.

    Subclasses are decorated with `use_np`.
    """

    backend, ops = "mxnet", layers

    def named_tensors(self) -> dict[str, Any]:
        parameters = self._collect_params_with_prefix()
        return {names.from_mxnet(name): p for name, p in parameters.items()}

    def give_values(self, arrays: Mapping[str, NDArray], beside: Any = None) -> None:
        devices = mx.cpu() if beside is None else devices_of(beside)
        tensors = self.named_tensors()
        for name in arrays:
            tensors[name].initialize(mx.init.Zero(), ctx=devices)
        self.set_values(arrays)

    def set_values(self, arrays: Mapping[str, NDArray]) -> None:
        tensors = self.named_tensors()
        for name, array in arrays.items():
            values = mx.np.array(np.ascontiguousarray(array, np.float32), dtype="float32")
            tensors[name].set_data(values)

    def read(self, tensor: Tensor) -> NDArray[np.float32]:
        if isinstance(tensor, mx.gluon.Parameter):
            tensor = tensor.list_data()[0]
        return tensor.asnumpy().astype(np.float32, copy=False)

    def tensor(self, values: NDArray[np.float32], like: Tensor) -> Tensor:
        return as_nd(values, device_of(like)).as_np_ndarray()

    def move_to(self, devices: Sequence[Any]) -> None:
        move_parameters(self, list(devices))

    def inputs(self, batch: Batch) -> list[Tensor]:
        return to_device(batch, devices_of(self)[0])

    def inference(self) -> AbstractContextManager[Any]:
        return mx.autograd.pause(train_mode=False)

    def cross_entropy(
        self, logits: Tensor, labels: NDArray, targets: NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        logits = logits.as_nd_ndarray()  # whose operators are faster
        label_ids = as_nd(labels.astype(np.float32), device_of(logits))
        log_probabilities = mx.nd.log_softmax(logits)
        if targets is None:
            losses = -mx.nd.pick(log_probabilities, label_ids)
        else:
            losses = -(log_probabilities * as_nd(targets, device_of(logits))).sum(axis=1)
        with mx.autograd.pause():
            hits = logits.argmax(1) == label_ids
        return losses.as_np_ndarray(), hits.as_np_ndarray()


@use_np
class BERTModel(MXNetNet, BERTNet, heads.BERTModel):
    __doc__ = BERTNet.__doc__


@use_np
class BERTForPretraining(MXNetNet, PretrainingNet):
    __doc__ = PretrainingNet.__doc__


@use_np
class BERTClassifier(MXNetNet, Classifier, heads.BERTClassifier):
    __doc__ = Classifier.__doc__

    def softmax_gradient(
        self, logits: Callable[[Tensor], Tensor], x: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        X = as_nd(x, devices_of(self)[0]).as_np_ndarray()
        X.attach_grad()
        with mx.autograd.record(train_mode=False):
            probabilities = mx.npx.softmax(logits(X), axis=1)
            (gradients,) = mx.autograd.grad([probabilities[:, label].sum()], [X], train_mode=False)
        return self.read(probabilities), self.read(gradients)
