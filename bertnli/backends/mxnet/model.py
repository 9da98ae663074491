"""BERT, its pretraining and the NLI classifier on Apache MXNet.

They are the models of `heads`, computed without padding by `packed`, with what `bertnli.nets`
adds to them on both backends. Shapes: B pairs, T tokens, P predictions of a pair, R of a batch, H
num_hiddens, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet import heads, layers
from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.bert import Tensor, nn, use_np
from bertnli.backends.mxnet.devices import as_nd, devices_of, to_device
from bertnli.backends.packed import first_tokens, tokens_at
from bertnli.data.batches import Batch
from bertnli.formats import names
from bertnli.nets.classifier import Classifier
from bertnli.nets.pretraining import BERTNet, PretrainingNet
from bertnli.nets.trainable import Net


class MXNetNet(Net, nn.Block):
    """What `bertnli.nets` needs of MXNet's tensors; its subclasses have `use_np`."""

    backend = "mxnet"

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
            tensor = tensor.data(tensor.list_ctx()[0])
        return tensor.asnumpy().astype(np.float32, copy=False)

    def tensor(self, values: NDArray[np.float32], like: Tensor) -> Tensor:
        return as_nd(values, like.ctx).as_np_ndarray()

    def move_to(self, devices: Sequence[Any]) -> None:
        self.collect_params().reset_ctx(list(devices))

    def inputs(self, batch: Batch) -> list[Tensor]:
        return to_device(batch, devices_of(self)[0])

    def inference(self) -> AbstractContextManager[Any]:
        return mx.autograd.pause(train_mode=False)

    def cross_entropy(
        self, logits: Tensor, labels: NDArray, targets: NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        logits = logits.as_nd_ndarray()  # whose operators are faster
        wanted = as_nd(labels.astype(np.float32), logits.ctx)
        log_probabilities = mx.nd.log_softmax(logits)
        if targets is None:
            losses = -mx.nd.pick(log_probabilities, wanted)
        else:
            losses = -(log_probabilities * as_nd(targets, logits.ctx)).sum(axis=1)
        with mx.autograd.pause():
            hits = logits.argmax(1) == wanted
        return losses.as_np_ndarray(), hits.as_np_ndarray()


@use_np
class BERTModel(MXNetNet, BERTNet, heads.BERTModel):
    __doc__ = BERTNet.__doc__


@use_np
class BERTForPretraining(MXNetNet, PretrainingNet):
    __doc__ = PretrainingNet.__doc__

    def forward(
        self, inputs: Sequence[Tensor], table: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of the tokens to predict, (R, V), and of the next sentence, (B, 2).

        Args:
            inputs: token_ids, segments (B, T), valid_lens (B,), pred_positions (B, P), -1 for
                none; the R others are predicted in their order.
            table: (U, H), the rows of the token embedding that the token_ids index; None for all.
        """
        tokens, segments, valid_lens, pred_positions = inputs
        self._check_input(tokens)
        starts = np.arange(len(tokens)) * tokens.shape[1]
        positions = pred_positions.asnumpy()
        places = (starts[:, None] + positions)[positions >= 0]  # (R,)
        R = len(places)
        if self.next_sentence:
            places = np.concatenate((places, starts))
        encoded = tokens_at(layers, self.encoder, tokens, segments, valid_lens, places, table)
        mlm_logits = layers.mlm_logits(self.mlm, encoded[:R])
        if not self.next_sentence:
            return mlm_logits, mx.np.zeros((len(tokens), 2), ctx=tokens.ctx)
        return mlm_logits, self.nsp(self.hidden(encoded[R:]))


@use_np
class BERTClassifier(MXNetNet, Classifier, heads.BERTClassifier):
    __doc__ = Classifier.__doc__

    def forward(self, inputs: Sequence[Tensor], table: Tensor | None = None) -> Tensor:
        """See `heads.BERTClassifier.forward`, whose numbers these are.

        Args:
            inputs: token_ids, segments, valid_lens.
            table: (U, H), the rows of the token embedding that the token_ids index; None for all.
        """
        tokens, segments, valid_lens = inputs
        self._check_input(tokens)
        encoded = first_tokens(layers, self.encoder, tokens, segments, valid_lens, table)  # (B, H)
        return self.output(self.hidden(encoded))

    def softmax_gradient(
        self, logits: Callable[[Tensor], Tensor], x: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        X = as_nd(x, devices_of(self)[0]).as_np_ndarray()
        X.attach_grad()
        with mx.autograd.record(train_mode=False):
            probabilities = mx.npx.softmax(logits(X), axis=1)
            (gradients,) = mx.autograd.grad([probabilities[:, label].sum()], [X], train_mode=False)
        return self.read(probabilities), self.read(gradients)
