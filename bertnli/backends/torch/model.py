"""BERT, its pretraining and the NLI classifier on PyTorch.

They combine the layers of `heads` with the classes of `bertnli.nets`, which both backends share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bertnli.backends.torch import heads, layers
from bertnli.backends.torch.devices import cpu, device_of, to_device
from bertnli.data.batches import Batch
from bertnli.formats import names
from bertnli.nets.classifier import Classifier
from bertnli.nets.pretraining import BERTNet, PretrainingNet
from bertnli.nets.trainable import Net


class TorchNet(Net, nn.Module):
    """The functions on PyTorch's tensors that `Net` declares."""

    backend, ops = "torch", layers

    def named_tensors(self) -> dict[str, nn.Parameter]:
        return {names.from_torch(name): p for name, p in self.named_parameters()}

    @contextmanager
    def building(self) -> Iterator[None]:
        # On meta, which skips initialisation and spares the user's random state.
        with torch.device("meta"), _NoDraws():
            yield

    def give_values(self, arrays: Mapping[str, NDArray], beside: Any = None) -> None:
        device = cpu() if beside is None else device_of(beside)
        for name, array in arrays.items():
            layer, _, attribute = names.to_torch(name).rpartition(".")
            values = torch.from_numpy(np.array(array, np.float32, order="C")).to(device)
            setattr(self.get_submodule(layer), attribute, nn.Parameter(values))

    @torch.no_grad()
    def set_values(self, arrays: Mapping[str, NDArray]) -> None:
        tensors = self.named_tensors()
        for name, array in arrays.items():
            writable = np.require(array, requirements=["C", "W"])  # as PyTorch wants it
            tensors[name].copy_(torch.from_numpy(writable))

    def read(self, tensor: Tensor) -> NDArray[np.float32]:
        return tensor.detach().float().cpu().numpy().copy()

    def tensor(self, values: NDArray[np.float32], like: Tensor) -> Tensor:
        return torch.from_numpy(values).to(like.device)

    def move_to(self, devices: Sequence[torch.device]) -> None:
        self.to(devices[0])

    def inputs(self, batch: Batch) -> list[Tensor]:
        return to_device(batch, device_of(self))

    @contextmanager
    def inference(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def cross_entropy(
        self, logits: Tensor, labels: NDArray, targets: NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        label_ids = torch.from_numpy(labels).to(logits.device).long()
        goal = label_ids if targets is None else torch.tensor(targets, device=logits.device)
        losses = functional.cross_entropy(logits, goal, reduction="none")
        return losses, logits.argmax(1) == label_ids


class BERTModel(TorchNet, BERTNet, heads.BERTModel):
    __doc__ = BERTNet.__doc__


class BERTForPretraining(TorchNet, PretrainingNet):
    __doc__ = PretrainingNet.__doc__


class BERTClassifier(TorchNet, Classifier, heads.BERTClassifier):
    __doc__ = Classifier.__doc__

    def softmax_gradient(
        self, logits: Callable[[Tensor], Tensor], x: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with self.inference(), torch.enable_grad():
            X = torch.tensor(x, device=device_of(self), requires_grad=True)
            probabilities = logits(X).softmax(1)
            (gradients,) = torch.autograd.grad(probabilities[:, label].sum(), X)
        return self.read(probabilities), self.read(gradients)


class _NoDraws(TorchFunctionMode):
    """Skips drawing start values, which would import PyTorch's compiler, in a second or more."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_:
            return None
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))
