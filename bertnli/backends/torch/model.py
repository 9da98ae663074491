"""BERT, its pretraining and the NLI classifier on PyTorch, as the rest of bertnli uses them.

They are the models of `heads` with start values that are every backend's, arrays by canonical
names, and a classifier's own things; and they compute with `packed` what has padding. Shapes: B
pairs, T tokens, P predictions of a pair, R of a batch, H num_hiddens, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bertnli._util.hints import hinted
from bertnli.backends.torch import heads, packed
from bertnli.backends.torch.devices import cpu, device_of, to_device
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS, checked_labels
from bertnli.bert.parameters import (
    bert_shapes,
    check_shapes,
    classifier_shapes,
    initial_arrays,
    layer_names,
)
from bertnli.data.batches import Batch
from bertnli.data.masking import PretrainingBatch
from bertnli.formats import names
from bertnli.formats.head import content_names, content_of, output_layer
from bertnli.nets.classifier import Classifier
from bertnli.nets.trainable import PretrainedModel, PretrainingModel, check_bert
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab


class BERTModel(PretrainedModel, heads.BERTModel):
    """BERT with its two pretraining heads, as the book has it.

    Args:
        vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks: see `BERTConfig`.
        dropout, max_len, activation, embedding_norm, norm_eps: see `BERTConfig`.
        seed: where the start values come from; the same on every backend.
        vocab: the vocabulary that the model carries along, if there is one.
        arrays: the values of the tensors under their canonical names, as a checkpoint has them;
            None for start values. A tensor that they lack stays without values, and the model is
            good for a `BERTClassifier` alone.
    """

    backend = "torch"

    @hinted()
    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        ffn_num_hiddens: int,
        num_heads: int,
        num_blks: int,
        dropout: float,
        max_len: int = 1000,
        *,
        activation: str = "relu",
        embedding_norm: bool = False,
        norm_eps: float = 1e-5,
        seed: int = 0,
        vocab: Vocab | None = None,
        arrays: Mapping[str, NDArray] | None = None,
    ) -> None:
        config = BERTConfig(
            vocab_size,
            num_hiddens,
            ffn_num_hiddens,
            num_heads,
            num_blks,
            dropout,
            max_len,
            activation,
            embedding_norm,
            norm_eps,
        )
        with _without_values():
            super().__init__(config)
        self.config = config
        self.vocab = vocab
        self.seed = seed
        for name, shape in bert_shapes(config).items():  # one by one, for they are large
            if arrays is None:
                _give_values(self, initial_arrays({name: shape}, seed))
            elif name in arrays:
                _give_values(self, {name: arrays[name]})
        self._weights = tuple(self.parameters())

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor | None = None,
        pred_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """See `heads.BERTModel.forward`."""
        self.check_weights()
        self.check_length(tokens.shape[1])
        return super().forward(tokens, segments, valid_lens, pred_positions)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, bert_shapes(self.config), source)
        _load_arrays(self, arrays)


class BERTForPretraining(PretrainingModel, nn.Module):
    """A BERT with its pretraining heads, as a trainer trains them.

    Args:
        bert: the model (shared, not copied).
        next_sentence: whether to learn which sentence follows; otherwise masked words alone, and
            the pooler and the head for sentences stay as they are.
    """

    backend = "torch"

    def __init__(self, bert: BERTModel, *, next_sentence: bool = True) -> None:
        check_bert(bert, self)
        super().__init__()
        self.config, self.vocab, self.next_sentence = bert.config, bert.vocab, next_sentence
        self.encoder = bert.encoder
        self.mlm = bert.mlm
        if next_sentence:
            self.hidden = bert.hidden
            self.nsp = bert.nsp
        self._keep_whole(bert)
        self._weights = tuple(self.parameters())

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of the tokens to predict, (R, V), and of the next sentence, (B, 2).

        Args:
            inputs: token_ids, segments (B, T), valid_lens (B,), pred_positions (B, P), -1 for
                none; the R others are predicted in their order.
        """
        tokens, segments, valid_lens, positions = inputs
        self.check_weights()
        self.check_length(tokens.shape[1])
        starts = torch.arange(len(tokens), device=tokens.device) * tokens.shape[1]
        there = positions >= 0
        places = (starts[:, None] + positions)[there]  # (R,)
        asked = torch.cat((places, starts)) if self.next_sentence else places
        with autocast(self.precision, tokens.device):
            encoded = packed.tokens_at(self.encoder, tokens, segments, valid_lens, asked)
            mlm_logits = packed.mlm_logits(self.mlm, encoded[: len(places)]).float()
        if not self.next_sentence:
            return mlm_logits, mlm_logits.new_zeros(len(tokens), 2)
        return mlm_logits, self.nsp(self.hidden(encoded[len(places) :].float()))

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and of the tokens predicted right, each as it is weighted.

        Over the size of the whole batch it is the mean loss of its masked tokens, and that of its
        sentences, as in the book.
        """
        (mlm_losses, mlm_hits), (nsp_losses, _) = self._judged(outputs, batch)
        weights = _predicted(batch, "pred_weights", mlm_losses.device)
        loss_sum = (mlm_losses * weights).sum()
        if self.next_sentence:
            loss_sum = loss_sum + nsp_losses.sum()
        return loss_sum, (mlm_hits * weights).sum()

    def eval_outputs(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> NDArray[np.float32]:
        """See `Trainable.eval_outputs`."""
        mlm, nsp = self._judged(outputs, batch)
        there = torch.from_numpy(cast(PretrainingBatch, batch).pred_positions >= 0)
        counted = torch.stack([*mlm, torch.ones_like(mlm[0])], 1).float().cpu()
        found = torch.zeros(len(batch), 3, dtype=torch.float32).index_add_(
            0, there.nonzero()[:, 0], counted
        )
        return torch.cat([found, torch.stack(nsp, 1).float().cpu()], 1).numpy()

    def _judged(
        self, outputs: tuple[Tensor, Tensor], batch: Batch
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return losses and hits of the tokens, (R,), and of the sentences, (B,)."""
        ids = _predicted(batch, "pred_ids", outputs[0].device)
        follows = torch.from_numpy(batch.labels).to(outputs[1].device)
        mlm, nsp = (
            (
                functional.cross_entropy(logits, targets.long(), reduction="none"),
                logits.argmax(1) == targets,
            )
            for logits, targets in zip(outputs, (ids, follows), strict=True)
        )
        return mlm, nsp

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor that is trained under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all trained tensors from arrays; see `check_shapes`."""
        check_shapes(arrays, self.shapes(), source)
        _load_arrays(self, arrays)


class BERTClassifier(Classifier, heads.BERTClassifier):
    """A BERT encoder with one output layer on ``<cls>``.

    Args:
        bert: the model whose encoder and pooler are used (shared, not copied).
        labels: the names of the classes, in the order of the logits.
        seed: where a new output layer's start values come from, with the content of the model; the
            same on every backend.
        new_head: begin with a new output layer, also where the model comes from a classifier of the
            same classes, whose layer is taken otherwise.
    """

    backend = "torch"

    @hinted()
    def __init__(
        self,
        bert: BERTModel,
        labels: Sequence[str] = LABELS,
        *,
        seed: int = 0,
        new_head: bool = False,
    ) -> None:
        check_bert(bert, self)
        names = checked_labels(labels)
        with _without_values():
            super().__init__(bert, len(names))
        self.config = bert.config
        self.vocab = bert.vocab
        self.labels = names
        shapes = classifier_shapes(self.config, len(self.labels))
        output = {name: shape for name, shape in shapes.items() if name.startswith("output.")}
        content = content_of(_arrays(bert, content_names(self.config)), bert.seed)
        layer = output_layer(bert.head, self.labels, new_head, output, seed, content)
        self.output_origin = layer.origin
        self.encoding = layer.encoding or PairEncoding.default(bert.config.max_len)
        _give_values(self, layer.arrays, device_of(bert))
        self._weights = tuple(self.parameters())

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """See `heads.BERTClassifier.forward`, whose numbers these are."""
        tokens, segments, valid_lens = inputs
        self.check_weights()
        self.check_length(tokens.shape[1])
        with autocast(self.precision, tokens.device):
            encoded = packed.first_tokens(self.encoder, tokens, segments, valid_lens)  # (B, H)
        return self.output(self.hidden(encoded))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Trainable.loss`."""
        labels = torch.from_numpy(batch.labels).to(outputs.device).long()
        targets = labels
        if batch.targets is not None:
            targets = torch.tensor(batch.targets, device=outputs.device)
        loss_sum = functional.cross_entropy(outputs, targets, reduction="sum")
        return loss_sum, (outputs.argmax(1) == labels).sum()

    def eval_outputs(self, outputs: Tensor, batch: Batch) -> NDArray[np.float32]:
        """Return the logits, (B, labels)."""
        return _array(outputs)

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the class logits of a batch without dropout, (B, labels), float32."""
        with self._inference():
            return _array(self(to_device(batch, device_of(self))))

    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """See `Classifier.activations`."""
        self.check_weights()
        with self._inference():
            tokens, segments, valid_lens = to_device(batch, device_of(self))
            layers = [self.encoder.embed(self.encoder.token_embedding(tokens), segments)]
            for blk in self.encoder.blks:
                layers.append(blk(layers[-1], valid_lens))
            pooled = self.hidden(layers[-1][:, 0])
            found = [*layers, pooled, self.output(pooled)]
        return dict(zip(layer_names(self.config), map(_array, found), strict=True))

    def probability_gradients(
        self, batch: Batch, embedded: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Classifier.probability_gradients`."""
        self.check_weights()
        device = device_of(self)
        _, segments, valid_lens = to_device(batch, device)
        with self._inference(), torch.enable_grad():
            X = torch.tensor(embedded, device=device, requires_grad=True)
            encoded = self.encoder.embed(X, segments)
            for blk in self.encoder.blks:
                encoded = blk(encoded, valid_lens)
            probabilities = self.output(self.hidden(encoded[:, 0])).softmax(1)
            (gradients,) = torch.autograd.grad(probabilities[:, label].sum(), X)
        return _array(probabilities.detach()), _array(gradients)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Compute without dropout and without a tape; leave the mode as it was."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, classifier_shapes(self.config, len(self.labels)), source)
        _load_arrays(self, arrays)


def _predicted(batch: Batch, name: str, device: torch.device) -> Tensor:
    """Return a field of the batch's R tokens to predict, in their order, (R,)."""
    there = cast(PretrainingBatch, batch).pred_positions >= 0
    return torch.from_numpy(getattr(batch, name)[there]).to(device)


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context for a precision; fp32 leaves a context of the user's alone."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()


def _arrays(model: nn.Module, only: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
    return {
        name: _array(tensor).copy()
        for own_name, tensor in model.state_dict().items()
        if (name := names.from_torch(own_name)) and (only is None or name in only)
    }


class _NoDraws(TorchFunctionMode):
    """Leaves out the drawing of start values, which would import PyTorch's compiler for seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_:
            return None
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def _without_values() -> Iterator[None]:
    """Build layers on meta, without values: skips initialisation and spares the user's RNG."""
    with torch.device("meta"), _NoDraws():
        yield


def _give_values(model: nn.Module, arrays: Mapping[str, NDArray], device: Any = None) -> None:
    """Put float32 values in the place of tensors that have none."""
    for name, array in arrays.items():
        path, _, own_name = names.to_torch(name).rpartition(".")
        values = torch.from_numpy(np.array(array, np.float32, order="C")).to(device or cpu())
        setattr(model.get_submodule(path), own_name, nn.Parameter(values))


def _load_arrays(model: nn.Module, arrays: Mapping[str, NDArray]) -> None:
    tensors = model.state_dict()
    with torch.no_grad():
        for name, array in arrays.items():
            writable = np.require(array, requirements=["C", "W"])  # as PyTorch wants it
            tensors[names.to_torch(name)].copy_(torch.from_numpy(writable))
