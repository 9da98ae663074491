"""BERT with its two pretraining heads, and a net that pretrains it, on any backend.

Shapes: B pairs, T tokens, P predictions of a pair, R masked tokens of a batch, H num_hiddens, V
vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import SENTENCE_HEADS, Shapes, bert_shapes, initial_arrays
from bertnli.data.batches import Batch, ExampleSet
from bertnli.data.masking import PretrainingBatch
from bertnli.data.pretraining import PretrainingSet
from bertnli.errors import ConfigError, DataError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.native import save_native
from bertnli.nets.metrics import PretrainingMetrics
from bertnli.nets.packed import tokens_at
from bertnli.nets.trainable import Net, Tensor, Trainable, check_backend, in_words
from bertnli.text.vocab import Vocab


class BERTNet(Net):
    """BERT with its two pretraining heads, as in the book.

    Args:
        vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks: see `BERTConfig`.
        dropout, max_len, settings: see `BERTConfig`.
        seed: the seed of the initial values, which are the same on every backend.
        vocab: the vocabulary that belongs to the model; None for none.
        arrays: the tensors' values by name, as in a checkpoint; None for initial values.
            Tensors without an array get no values; such a model can only be made a
            `BERTClassifier`.
    """

    seed: int
    #: The output layer of the classifier that the model was loaded from, if it was one.
    head: Checkpoint | None = None

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
        seed: int = 0,
        vocab: Vocab | None = None,
        arrays: Mapping[str, NDArray] | None = None,
        **settings: Any,
    ) -> None:
        sizes = (vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len)
        config = BERTConfig(*sizes, **settings)
        with self.building():
            super().__init__(config)  # type: ignore[call-arg]
        self.config, self.vocab, self.seed = config, vocab, seed
        for name, shape in self.shapes().items():  # one by one, for they are large
            if arrays is None:
                self.give_values(initial_arrays({name: shape}, seed))
            elif name in arrays:
                self.give_values({name: arrays[name]})
        self._weights = tuple(self.named_tensors().values())

    def shapes(self) -> Shapes:
        return bert_shapes(self.config)

    def forward(self, tokens: Tensor, *inputs: Any, **named: Any) -> Any:
        """Compute encoded tokens (B, T, H), MLM logits (B, P, V) or None, and NSP logits (B, 2).

        Args:
            tokens, segments: (B, T) integers.
            valid_lens: (B,) numbers of tokens that are not padding; None without padding.
            pred_positions: (B, P) positions whose tokens to predict; None for no MLM logits.
        """
        self.check_input(tokens)
        return super().forward(tokens, *inputs, **named)  # type: ignore[misc]


def check_bert(bert: Any, net: Trainable) -> None:
    """Raise ConfigError unless ``bert`` is a BERT of the same backend as the net."""
    what = f"{type(net).__name__}() takes a BERT"
    if isinstance(bert, tuple | list) and any(isinstance(item, BERTNet) for item in bert):
        raise ConfigError(
            f"{what} alone, and this is a {type(bert).__name__} of {len(bert)}; unpack it: "
            "bert, vocab = load_pretrained_model(...)"
        )
    if not isinstance(bert, BERTNet):
        raise ConfigError(
            f"{what}, and not {in_words(bert)}; make one with bert, vocab = "
            "load_pretrained_model('bert.mini')"
        )
    check_backend(bert, net.backend, what)


class PretrainingNet(Trainable):
    """A net that pretrains a BERT on masked tokens and pairs of sentences.

    Args:
        bert: the model, shared and not copied.
        next_sentence: whether to learn which sentence follows. If not, the pooler and the
            next-sentence head stay as they are.
    """

    num_eval_outputs = PretrainingMetrics.NUM_EVAL_OUTPUTS

    def __init__(self, bert: Any, *, next_sentence: bool = True) -> None:
        check_bert(bert, self)
        super().__init__()
        self.config, self.vocab, self.next_sentence = bert.config, bert.vocab, next_sentence
        self.encoder, self.mlm = bert.encoder, bert.mlm
        if next_sentence:
            self.hidden, self.nsp = bert.hidden, bert.nsp
        self._all_arrays: Callable[[], dict[str, NDArray]] = bert.arrays  # untrained ones, too
        self._weights = tuple(self.named_tensors().values())

    def forward(self, inputs: Sequence[Tensor], table: Any = None) -> tuple[Tensor, Tensor]:
        """Compute the logits of the masked tokens, (R, V), and of the next sentence, (B, 2).

        Args:
            inputs: token_ids (B, T), segments (B, T), valid_lens (B,), and pred_positions (B, P),
                of which those that are not -1 are the R positions of masked tokens.
            table: (U, H), the rows of the token embedding that token_ids index; None for all rows.
        """
        tokens, *_, pred_positions = inputs
        self.check_input(tokens)
        starts = np.arange(len(tokens)) * tokens.shape[1]
        positions = self.ops.to_numpy(pred_positions)
        places = (starts[:, None] + positions)[positions >= 0]  # (R,)
        R = len(places)
        if self.next_sentence:
            places = np.concatenate((places, starts))
        encoded = tokens_at(self, inputs[:3], places, table)
        with self.ops.autocast(self.precision, tokens):
            mlm_logits = self.ops.mlm_logits(self.mlm, encoded[:R])
        if not self.next_sentence:
            return mlm_logits, self.tensor(np.zeros((len(tokens), 2), np.float32), mlm_logits)
        return mlm_logits, self.nsp(self.hidden(encoded[R:]))

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the weighted sum of a batch's losses, and that of its correct predictions.

        Divided by the size of the whole batch, the loss is the mean over its masked tokens plus
        the mean over its pairs of sentences, as in the book.
        """
        (mlm_losses, mlm_hits), (nsp_losses, _) = self._losses(outputs, batch)
        weights = self.tensor(_predicted(batch, "pred_weights"), mlm_losses)
        loss_sum = (mlm_losses * weights).sum()
        if self.next_sentence:
            loss_sum = loss_sum + nsp_losses.sum()
        return loss_sum, (mlm_hits * weights).sum()

    def eval_outputs(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> NDArray[np.float32]:
        mlm, nsp = ([self.read(x) for x in pair] for pair in self._losses(outputs, batch))
        sums = np.zeros((len(batch), 3), np.float32)
        pairs = np.nonzero(cast(PretrainingBatch, batch).pred_positions >= 0)[0]
        np.add.at(sums, pairs, np.stack([*mlm, np.ones_like(mlm[0])], 1))
        return np.concatenate([sums, np.stack(nsp, 1)], 1)

    def _losses(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Return loss and correctness for each masked token, (R,), and each pair, (B,)."""
        targets = _predicted(batch, "pred_ids"), batch.labels
        return [self.cross_entropy(*each) for each in zip(outputs, targets, strict=True)]

    def shapes(self) -> Shapes:
        """Return the shape of each trained tensor by name."""
        untrained = () if self.next_sentence else SENTENCE_HEADS
        shapes = bert_shapes(self.config)
        return {name: shapes[name] for name in shapes if not name.startswith(untrained)}

    def score(self, eval_outputs: NDArray, labels: NDArray) -> PretrainingMetrics:
        return PretrainingMetrics.from_eval_outputs(eval_outputs, self.next_sentence)

    def check_set(self, data: ExampleSet, what: str) -> None:
        if not isinstance(data, PretrainingSet):
            raise DataError(
                f"the {what} set has labelled pairs; pretraining takes a PretrainingSet"
            )
        if data.next_sentence != self.next_sentence:
            raise DataError(
                f"the {what} set has next_sentence={data.next_sentence}, and the net "
                f"next_sentence={self.next_sentence}; give both the same"
            )

    def save(self, folder: str | Path) -> None:
        """Write weights, sizes and vocabulary to one folder that any backend opens."""
        arrays = self._all_arrays()
        ordered = {name: arrays[name] for name in bert_shapes(self.config)}
        save_native(folder, ordered, self.config, None, self.required_vocab())


def _predicted(batch: Batch, name: str) -> NDArray:
    """Select the elements of a batch's (B, P) array that belong to masked tokens, (R,)."""
    return getattr(batch, name)[cast(PretrainingBatch, batch).pred_positions >= 0]
