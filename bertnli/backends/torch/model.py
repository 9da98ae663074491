"""BERT, its pretraining and the NLI classifier on PyTorch.

They are the models of `heads`, computed without padding by `packed`, with what `bertnli.nets`
adds to them on both backends. Shapes: B pairs, T tokens, P predictions of a pair, R of a batch, H
num_hiddens, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bertnli.backends.packed import first_tokens, tokens_at
from bertnli.backends.torch import heads, layers
from bertnli.backends.torch.devices import cpu, device_of, to_device
from bertnli.data.batches import Batch
from bertnli.formats import names
from bertnli.nets.classifier import Classifier
from bertnli.nets.pretraining import BERTNet, PretrainingNet
from bertnli.nets.trainable import Net


class TorchNet(Net, nn.Module):
    """What `bertnli.nets` needs of PyTorch's tensors."""

    backend = "torch"

    def named_tensors(self) -> dict[str, nn.Parameter]:
        return {names.from_torch(name): p for name, p in self.named_parameters()}

    @contextmanager
    def building(self) -> Iterator[None]:
        """Make layers on meta, without values: skips initialisation and spares the user's RNG."""
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
        wanted = torch.from_numpy(labels).to(logits.device).long()
        goal = wanted if targets is None else torch.tensor(targets, device=logits.device)
        losses = functional.cross_entropy(logits, goal, reduction="none")
        return losses, logits.argmax(1) == wanted


class BERTModel(TorchNet, BERTNet, heads.BERTModel):
    __doc__ = BERTNet.__doc__


class BERTForPretraining(TorchNet, PretrainingNet):
    __doc__ = PretrainingNet.__doc__

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of the tokens to predict, (R, V), and of the next sentence, (B, 2).

        Args:
            inputs: token_ids, segments (B, T), valid_lens (B,), pred_positions (B, P), -1 for
                none; the R others are predicted in their order.
        """
        tokens, segments, valid_lens, pred_positions = inputs
        self._check_input(tokens)
        starts = np.arange(len(tokens)) * tokens.shape[1]
        positions = pred_positions.cpu().numpy()
        places = (starts[:, None] + positions)[positions >= 0]  # (R,)
        R = len(places)
        if self.next_sentence:
            places = np.concatenate((places, starts))
        with autocast(self.precision, tokens.device):
            encoded = tokens_at(layers, self.encoder, tokens, segments, valid_lens, places)
            mlm_logits = layers.mlm_logits(self.mlm, encoded[:R]).float()
        if not self.next_sentence:
            return mlm_logits, mlm_logits.new_zeros(len(tokens), 2)
        return mlm_logits, self.nsp(self.hidden(encoded[R:].float()))


class BERTClassifier(TorchNet, Classifier, heads.BERTClassifier):
    __doc__ = Classifier.__doc__

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """See `heads.BERTClassifier.forward`, whose numbers these are."""
        tokens, segments, valid_lens = inputs
        self._check_input(tokens)
        with autocast(self.precision, tokens.device):
            encoded = first_tokens(layers, self.encoder, tokens, segments, valid_lens)  # (B, H)
        return self.output(self.hidden(encoded))

    def softmax_gradient(
        self, logits: Callable[[Tensor], Tensor], x: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with self.inference(), torch.enable_grad():
            X = torch.tensor(x, device=device_of(self), requires_grad=True)
            probabilities = logits(X).softmax(1)
            (gradients,) = torch.autograd.grad(probabilities[:, label].sum(), X)
        return self.read(probabilities), self.read(gradients)


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context for a precision; fp32 leaves a context of the user's alone."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class _NoDraws(TorchFunctionMode):
    """Skips drawing start values, which would import PyTorch's compiler, in a second or more."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_:
            return None
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))
