"""BERT and the NLI classifier on Apache MXNet.

The layers, their names and their order are the book's, so that a ``.params`` file of the book
loads as it is. Shapes in comments: B pairs, T tokens, N rows, H num_hiddens, F ffn_num_hiddens, h
heads, d = H / h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.interface import Classifier, PretrainedModel
from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.chunks import PackedChunk, packed_chunks, padded_neighbours
from bertnli.backends.mxnet.devices import as_nd, devices_of, to_device
from bertnli.backends.mxnet.kernels import (
    Dropout,
    FirstTokens,
    Neighbours,
    activate,
    attention,
    attention_of_firsts,
    concat,
    layer_norm,
    linear,
    lookup_sum,
    take,
)
from bertnli.checkpoints import names
from bertnli.config import BERTConfig
from bertnli.data.batches import Batch
from bertnli.data.packing import rounded_up
from bertnli.labels import LABELS
from bertnli.parameters import (
    bert_shapes,
    check_shapes,
    classifier_shapes,
    initial_arrays,
    layer_names,
)
from bertnli.text.vocab import Vocab

nd: Any = mx.nd
nn: Any = mx.gluon.nn
use_np: Any = mx.util.use_np

#: An mx.np.ndarray; mxnet ships no types.
Tensor = Any


@use_np
class MultiHeadAttention(nn.Block):
    """Scaled dot-product self-attention of several heads (Vaswani et al., 2017)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.W_q = _dense(config.num_hiddens, config.num_hiddens)
        self.W_k = _dense(config.num_hiddens, config.num_hiddens)
        self.W_v = _dense(config.num_hiddens, config.num_hiddens)
        self.W_o = _dense(config.num_hiddens, config.num_hiddens)
        self.dropout = Dropout(config.dropout)

    def forward(self, X: Tensor, neighbours: Neighbours) -> Tensor:
        gathered = neighbours.gather(self.queries(X), *self.keys_values(X))
        return self.attend(gathered, neighbours)

    def queries(self, X: Tensor, biased: bool = True) -> Tensor:
        return _linear(X, self.W_q, biased=biased)  # (N, H)

    def keys_values(self, X: Tensor, biased: bool = True) -> tuple[Tensor, Tensor]:
        return _linear(X, self.W_k, biased=biased), _linear(X, self.W_v, biased=biased)  # (N, H)

    def attend(self, gathered: list[list[Tensor]], neighbours: Neighbours) -> Tensor:
        return _linear(attention(gathered, neighbours, self.dropout), self.W_o)  # (Q, H)

    def of_firsts(self, firsts: Tensor, X: Tensor, seen: FirstTokens) -> Tensor:
        """Return what `forward` gives for one query of each pair, (m, H); of X (N, H) no key or
        value is computed."""
        key_layer, value_layer = (
            (layer.weight.data(X.ctx), layer.bias.data(X.ctx)) for layer in (self.W_k, self.W_v)
        )
        queries = self.queries(firsts)
        heads = attention_of_firsts(
            queries, X, key_layer, value_layer, seen, self.num_heads, self.dropout
        )
        return _linear(heads, self.W_o)


@use_np
class PositionWiseFFN(nn.Block):
    """Two dense layers on each position, an activation between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dense1 = _dense(config.ffn_num_hiddens, config.num_hiddens)
        self.dense2 = _dense(config.num_hiddens, config.ffn_num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        return _linear(activate(_linear(X, self.dense1), self.activation), self.dense2)  # (N, H)


@use_np
class AddNorm(nn.Block):
    """Dropout on a sublayer's output, the residual sum, layer normalisation."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.ln = _norm(config)

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return _normalised(self.dropout.add(X, Y), self.ln)  # (N, H)


@use_np
class EncoderBlock(nn.Block):
    """A Transformer encoder block, normalised after each sublayer."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config)
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config)

    def forward(self, X: Tensor, neighbours: Neighbours) -> Tensor:
        return self.after(X, self.attention(X, neighbours))

    def after(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return what the block makes of its input X and the attention's output Y, (N, H)."""
        Y = self.addnorm1(X, Y)
        return self.addnorm2(Y, self.ffn(Y))


@use_np
class BERTEncoder(nn.Block):
    """Token, segment and position embeddings, summed, through the encoder blocks.

    Everything but attention works on rows: tokens laid end to end, (N, H).
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.num_hiddens)
        self.segment_embedding = nn.Embedding(2, config.num_hiddens)
        self.pos_embedding = self.params.get(
            "pos_embedding", shape=(1, config.max_len, config.num_hiddens)
        )
        self.ln = None
        if config.embedding_norm:
            self.ln = _norm(config)
            self.dropout = Dropout(config.dropout)
        self.blks = nn.Sequential()
        self.blks.add(*(EncoderBlock(config) for _ in range(config.num_blks)))

    def forward(self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None) -> Tensor:
        """Return all encoded tokens, padding included, (B, T, H)."""
        for X in self.layers(tokens, segments, valid_lens):
            encoded = X
        return encoded

    def layers(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None
    ) -> Iterator[Tensor]:
        """Yield what the first block gets, and what each block makes of it, (B, T, H)."""
        B, T = tokens.shape
        device = tokens.ctx
        X = self.token_embedding(tokens) + self.pos_embedding.data(device)[:, :T]
        # A product with one-hot rows: the gradient of a lookup in so small a table is slow.
        one_hot = as_nd(np.eye(2)[segments.asnumpy().astype(np.int64)], device).as_np_ndarray()
        X = X + mx.np.dot(one_hot, self.segment_embedding.weight.data(device))
        X = self.normalised(X.reshape((B * T, -1)))
        yield X.reshape((B, T, -1))
        lens = None if valid_lens is None else valid_lens.asnumpy()
        neighbours = Neighbours(padded_neighbours(B, T, lens), B * T, self.config.num_heads, device)
        for blk in self.blks:
            X = blk(X, neighbours)
            yield X.reshape((B, T, -1))

    def normalised(self, X: Tensor) -> Tensor:
        """Return what the first block gets of summed embeddings X, (N, H)."""
        return X if self.ln is None else self.dropout(_normalised(X, self.ln))

    def first_tokens(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor, table: Tensor | None
    ) -> Tensor:
        """Return the encoded first token of each pair, (B, H): the same numbers, with less work.

        Padding is not computed, and of the last block only what the first tokens need.
        """
        *blks, last = self.blks
        device, width = tokens.ctx, tokens.shape[1]
        if table is None:
            table = self.token_embedding.weight.data(device)
        inputs = EncoderInputs(self, tokens.asnumpy(), segments.asnumpy(), table)
        pairs, encoded = [], []
        for chunk in packed_chunks(valid_lens.asnumpy(), width, self.config.num_heads, device):
            X = inputs.embedded(chunk)  # (N, H)
            for i, blk in enumerate(blks):
                if i == 0 and not self.config.embedding_norm:
                    X = blk.after(X, inputs.attended(chunk))
                else:
                    X = blk(X, chunk.all_queries)
            firsts = take(X, chunk.firsts)  # (m, H)
            attended = last.attention.of_firsts(firsts, X, chunk.first_queries)
            pairs.append(chunk.pairs)
            encoded.append(last.after(firsts, attended))
        return take(concat(encoded), np.argsort(np.concatenate(pairs))[: len(tokens)])


class EncoderInputs:
    """What the blocks of an encoder get of a padded batch.

    A token's embedding is a sum of two: its own, and its place's (segment and position). So are
    its projections in the first block, which are linear, unless the sum is normalised first. Both
    are computed once for each distinct token and place, of which a batch has far fewer than tokens,
    and looked up.

    Args:
        encoder: with at least one block.
        tokens, segments: (B, T) NumPy.
        table: (U, H), the token embedding's, or rows of it that the tokens count.
    """

    def __init__(
        self, encoder: BERTEncoder, tokens: NDArray, segments: NDArray, table: Tensor
    ) -> None:
        self.encoder = encoder
        T = tokens.shape[1]
        ids, self.token_rows = distinct(tokens.astype(np.int64))
        places = segments.astype(np.int64) * T + np.arange(T)
        places, self.place_rows = distinct(places)
        self.attention = encoder.blks[0].attention
        self.by_token = take(table, ids)  # (distinct tokens, H)
        segment_table = encoder.segment_embedding.weight.data(table.ctx)
        position_table = encoder.pos_embedding.data(table.ctx)[0]
        self.by_place = take(segment_table, places // T) + take(position_table, places % T)

    def embedded(self, chunk: PackedChunk) -> Tensor:
        """Return the embeddings of a chunk's tokens, (N, H)."""
        X = lookup_sum(self.by_token, self.by_place, *self._rows(chunk))
        return self.encoder.normalised(X)

    def attended(self, chunk: PackedChunk) -> Tensor:
        """Return what the first block's attention makes of them, (N, H)."""
        near = chunk.all_queries
        by_token, by_place = (
            near.gather(*projections, rows=rows)
            for projections, rows in zip(self._projections, self._rows(chunk), strict=True)
        )
        gathered = [
            [nd.elemwise_add(*parts) for parts in zip(*pair, strict=True)]
            for pair in zip(by_token, by_place, strict=True)
        ]
        return self.attention.attend(gathered, near)

    @cached_property
    def _projections(self) -> list[tuple[Tensor, ...]]:
        """Queries, keys and values of the distinct tokens, and of the places."""
        return [
            (self.attention.queries(X, biased), *self.attention.keys_values(X, biased))
            for X, biased in ((self.by_token, True), (self.by_place, False))
        ]

    def _rows(self, chunk: PackedChunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.token_rows[chunk.tokens], self.place_rows[chunk.tokens]


def distinct(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct ones of (B, T) integers, the last repeated to make a round number (U,) of
    them, and where in them each value is, (B T,)."""
    found, rows = np.unique(values, return_inverse=True)
    repeats = rounded_up(len(found)) - len(found)
    return np.concatenate((found, found[-1:].repeat(repeats))), rows.ravel()


@use_np
class MaskLM(nn.Block):
    """The masked language model head: predicts the tokens at given positions."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential()
        self.activation = config.activation
        self.mlp.add(
            _dense(config.num_hiddens, config.num_hiddens),
            _norm(config),
            _dense(config.vocab_size, config.num_hiddens),
        )

    def forward(self, X: Tensor, pred_positions: Tensor) -> Tensor:
        pairs = mx.np.arange(len(X), ctx=X.ctx).reshape(-1, 1)
        dense, norm, decoder = self.mlp
        Y = dense(X[pairs.astype("int32"), pred_positions.astype("int32")])  # (B, P, H)
        return decoder(norm(activate(Y, self.activation)))  # (B, P, V)


@use_np
class NextSentencePred(nn.Block):
    """The next sentence prediction head, on the pooled vector."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.output = _dense(2, config.num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        return self.output(X)  # (B, 2)


@use_np
class BERTModel(PretrainedModel, nn.Block):
    """BERT with its two pretraining heads, as the book has it.

    Args:
        vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len,
            activation, embedding_norm, norm_eps: see `BERTConfig`.
        seed: where the start values come from; the same on every backend.
        vocab: the vocabulary that the model carries along, if there is one.
    """

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
        super().__init__()
        self.config = config
        self.vocab = vocab
        self.encoder = BERTEncoder(config)
        self.hidden = _dense(num_hiddens, num_hiddens, activation="tanh")
        self.mlm = MaskLM(config)
        self.nsp = NextSentencePred(config)
        self.initialize(mx.init.Zero(), ctx=mx.cpu())
        for name, shape in bert_shapes(config).items():  # one by one, for they are large
            _load_arrays(self, initial_arrays({name: shape}, seed))

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor | None = None,
        pred_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return encoded (B, T, H), MLM logits (B, P, V) or None, NSP logits (B, 2).

        Args:
            tokens, segments: (B, T) integers.
            valid_lens: (B,) tokens that are not padding; None where nothing is.
            pred_positions: (B, P) positions whose tokens to predict.
        """
        self.check_length(tokens.shape[1])
        encoded = self.encoder(tokens, segments, valid_lens)
        mlm_logits = None if pred_positions is None else self.mlm(encoded, pred_positions)
        return encoded, mlm_logits, self.nsp(self.hidden(encoded[:, 0]))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, bert_shapes(self.config), source)
        _load_arrays(self, arrays)


@use_np
class BERTClassifier(Classifier, nn.Block):
    """A BERT encoder with one output layer on ``<cls>``.

    Args:
        bert: the model whose encoder and pooler are used (shared, not copied).
        labels: the names of the classes, in the order of the logits.
        seed: where the output layer's start values come from; the same on every backend.
    """

    def __init__(self, bert: BERTModel, labels: Sequence[str] = LABELS, *, seed: int = 0) -> None:
        super().__init__()
        self.config = bert.config
        self.vocab = bert.vocab
        self.labels = tuple(labels)
        self.encoder = bert.encoder
        self.hidden = bert.hidden
        self.output = _dense(len(self.labels), bert.config.num_hiddens)
        self.output.initialize(mx.init.Zero(), ctx=devices_of(bert))
        shapes = classifier_shapes(self.config, len(self.labels))
        output = {name: shape for name, shape in shapes.items() if name.startswith("output.")}
        _load_arrays(self, initial_arrays(output, seed))

    def forward(self, inputs: Sequence[Tensor], table: Tensor | None = None) -> Tensor:
        """Return the class logits, (B, labels).

        Args:
            inputs: token_ids (B, T), segments (B, T), valid_lens (B,), as the dataset gives them.
            table: (U, H), rows of the token embedding that the token_ids count; None
                for all of it.
        """
        tokens, segments, valid_lens = inputs
        self.check_length(tokens.shape[1])
        encoded = self.encoder.first_tokens(tokens, segments, valid_lens, table)  # (B, H)
        return self.output(self.hidden(encoded))

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the class logits of a batch without dropout, (B, labels), float32."""
        with mx.autograd.pause(train_mode=False):
            return self(to_device(batch, devices_of(self)[0])).asnumpy()

    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """See `Classifier.activations`."""
        with mx.autograd.pause(train_mode=False):
            layers = [*self.encoder.layers(*to_device(batch, devices_of(self)[0]))]
            pooled = self.hidden(layers[-1][:, 0])
            found = [X.asnumpy() for X in (*layers, pooled, self.output(pooled))]
        return dict(zip(layer_names(self.config), found, strict=True))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, classifier_shapes(self.config, len(self.labels)), source)
        _load_arrays(self, arrays)


def _linear(X: Tensor, layer: Any, biased: bool = True) -> Tensor:
    return linear(X, layer.weight.data(X.ctx), layer.bias.data(X.ctx) if biased else None)


def _normalised(X: Tensor, layer: Any) -> Tensor:
    return layer_norm(X, layer.gamma.data(X.ctx), layer.beta.data(X.ctx), layer._epsilon)


def _norm(config: BERTConfig) -> Any:
    return nn.LayerNorm(epsilon=config.norm_eps, in_channels=config.num_hiddens)


def _dense(units: int, in_units: int, activation: str | None = None) -> Any:
    return nn.Dense(units, activation=activation, flatten=False, in_units=in_units)


def _arrays(model: Any) -> dict[str, NDArray[np.float32]]:
    return {
        names.from_mxnet(own_name): parameter.data(parameter.list_ctx()[0]).asnumpy()
        for own_name, parameter in model._collect_params_with_prefix().items()
    }


@use_np
def _load_arrays(model: Any, arrays: Mapping[str, NDArray]) -> None:
    parameters = model._collect_params_with_prefix()
    for name, array in arrays.items():
        values = mx.np.array(np.ascontiguousarray(array, np.float32), dtype="float32")
        parameters[names.to_mxnet(name)].set_data(values)
