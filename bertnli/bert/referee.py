"""The referee: the model in float64 NumPy, with whose results both backends are compared.

It follows the book's formulas term by term, and is written to be read, not to be fast. A layer
returns its output and a function for the backward pass, which is derived by hand and tested with
central differences. Shapes: B pairs, T tokens, H num_hiddens, h heads, d = H / h, C classes, V
vocab_size, P predicted positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import (
    DISTANCE_TABLE,
    POSITION_TABLE,
    RELATIVE_TABLE,
    SEGMENT_TABLE,
    TOKEN_TABLE,
    classifier_shapes,
)
from bertnli.bert.positions import distance_ranges, relative_ranges

Array = NDArray[np.float64]
Arrays = dict[str, Array]
Ids = NDArray[np.int64]
#: Maps the gradient of the loss by a layer's output to the gradient by its input.
Backward = Callable[[Array], Array]

#: Attention score of padding: below any other score, as on the backends (-1e6 in the book).
MASKED_SCORE = -1e30
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class RefereeOutput:
    """The outputs of a model, float64; None for a head whose tensors or positions are missing.

    Args:
        layers: the embeddings and the output of each block, (B, T, H).
        pooled: output of the pooler, (B, H), the input of the sentence-pair heads.
        mlm_logits: logits of masked language modeling, (B, P, V).
        nsp_logits: logits of next-sentence prediction, (B, 2).
        logits: logits of the classifier, (B, C).
    """

    layers: tuple[Array, ...]
    pooled: Array
    mlm_logits: Array | None
    nsp_logits: Array | None
    logits: Array | None

    @property
    def encoded(self) -> Array:
        """The last block's output, (B, T, H)."""
        return self.layers[-1]


def forward(
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    token_ids: ArrayLike,
    segments: ArrayLike,
    valid_lens: ArrayLike | None = None,
    pred_positions: ArrayLike | None = None,
) -> RefereeOutput:
    """Compute a model's outputs, without dropout.

    Args:
        arrays: tensors by canonical name; a head is computed if its tensors are among them.
        config: the model's sizes.
        token_ids, segments: integers, (B, T).
        valid_lens: number of tokens without padding, (B,), or for each query, (B, T); None if there
            is no padding.
        pred_positions: positions whose tokens the MLM head predicts, (B, P); None for no MLM.
    """
    net = _Net(arrays, config, valid_lens)
    layers = net.encode(_ids(token_ids), _ids(segments))
    pooled, _ = net.pool(layers[-1][:, 0])
    mlm_logits = None
    if pred_positions is not None and "mlm.dense.weight" in arrays:
        X = np.take_along_axis(layers[-1], _ids(pred_positions)[:, :, None], axis=1)  # (B, P, H)
        X, _ = net.activation(net.dense("mlm.dense", X)[0])
        mlm_logits, _ = net.dense("mlm.decoder", net.norm("mlm.ln", X)[0])
    nsp_logits, logits = (
        net.dense(head, pooled)[0] if f"{head}.weight" in arrays else None
        for head in ("nsp.output", "output")
    )
    return RefereeOutput(tuple(layers), pooled, mlm_logits, nsp_logits, logits)


def losses(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Compute each pair's cross-entropy in nats, (B,), from logits (B, C) and class ids (B,)."""
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(scores, _ids(labels)[:, None], axis=1)[:, 0]
    return np.log(np.exp(scores).sum(axis=1)) - chosen


def gradients(
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    token_ids: ArrayLike,
    segments: ArrayLike,
    valid_lens: ArrayLike | None,
    labels: ArrayLike,
) -> Arrays:
    """Compute the gradients of a classifier's mean loss on a batch; return them by tensor name.

    Args:
        arrays: tensors by canonical name; those that a classifier does not have are ignored.
        config, token_ids, segments, valid_lens: see `forward`.
        labels: class ids, (B,).
    """
    net = _Net(arrays, config, valid_lens)
    tokens, sides, classes = _ids(token_ids), _ids(segments), _ids(labels)
    layers = net.encode(tokens, sides)
    pooled, pool_backward = net.pool(layers[-1][:, 0])
    logits, output_backward = net.dense("output", pooled)

    d_logits = _softmax(logits)
    d_logits[np.arange(len(classes)), classes] -= 1
    d_X = np.zeros_like(layers[-1])
    d_X[:, 0] = pool_backward(output_backward(d_logits / len(classes)))
    for i in reversed(range(config.num_blks)):  # computed again, rather than kept in memory
        d_X = net.block(i, layers[i])[1](d_X)
    d_X = net.embed(tokens, sides)[1](d_X)

    if config.position_buckets:
        net.distances_backward()
    else:
        net.grads[POSITION_TABLE] = np.zeros_like(net.weights[POSITION_TABLE])
        first = config.first_position
        net.grads[POSITION_TABLE][0, first : first + tokens.shape[1]] = d_X.sum(axis=0)
    net.grads[TOKEN_TABLE] = np.zeros_like(net.weights[TOKEN_TABLE])
    np.add.at(net.grads[TOKEN_TABLE], tokens, d_X)
    if config.num_segments:
        net.grads[SEGMENT_TABLE] = np.zeros_like(net.weights[SEGMENT_TABLE])
        np.add.at(net.grads[SEGMENT_TABLE], net.segments(sides), d_X)
    return {name: net.grads[name] for name in classifier_shapes(config, logits.shape[1])}


def attention_weights(
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    block: int,
    X: ArrayLike,
    valid_lens: ArrayLike | None = None,
) -> Array:
    """Compute a block's attention weights (B, h, T queries, T keys) from its input X (B, T, H)."""
    name = f"encoder.blks.{block}.attention"
    needed = f"{name}.", RELATIVE_TABLE, "encoder.distances."
    weights = {n: array for n, array in arrays.items() if n.startswith(needed)}
    return _Net(weights, config, valid_lens).attention(name, np.asarray(X, np.float64))[0]


def adam_step(
    weights: Mapping[str, NDArray],
    grads: Mapping[str, NDArray],
    m: Arrays,
    v: Arrays,
    step: int,
    lr: float,
) -> Arrays:
    """Return the weights after one step of Adam (Kingma and Ba, 2015), as torch.optim.Adam.

    Args:
        weights, grads: tensors by name, and the gradients of the loss by them.
        m, v: first and second moments by name, empty before the first step; updated in place.
        step: number of the step, counted from 1.
        lr: learning rate.
    """
    updated = {}
    for name, weight in weights.items():
        grad = np.asarray(grads[name], np.float64)
        m[name] = BETA1 * m.get(name, 0.0) + (1 - BETA1) * grad
        v[name] = BETA2 * v.get(name, 0.0) + (1 - BETA2) * grad**2
        m_hat, v_hat = m[name] / (1 - BETA1**step), v[name] / (1 - BETA2**step)
        updated[name] = weight - lr * m_hat / (np.sqrt(v_hat) + ADAM_EPSILON)
    return updated


class _Net:
    """The layers of a BERT; their backward passes put the weights' gradients into ``grads``."""

    def __init__(
        self, arrays: Mapping[str, NDArray], config: BERTConfig, valid_lens: ArrayLike | None
    ) -> None:
        self.weights = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        self.config, self.valid_lens = config, valid_lens
        self.grads: Arrays = {}
        if config.position_buckets:  # shared by all blocks
            self.distances, self.norm_distances_backward = self.norm(
                "encoder.distances.ln", self.weights[DISTANCE_TABLE]
            )
            self.d_distances = np.zeros_like(self.distances)

    def encode(self, tokens: Ids, segments: Ids) -> list[Array]:
        layers = [self.embed(tokens, segments)[0]]
        for i in range(self.config.num_blks):
            layers.append(self.block(i, layers[-1])[0])
        return layers

    def embed(self, tokens: Ids, segments: Ids) -> tuple[Array, Backward]:
        first = self.config.first_position
        X = self.weights[TOKEN_TABLE][tokens]
        if self.config.num_segments:
            X = X + self.weights[SEGMENT_TABLE][self.segments(segments)]
        if not self.config.position_buckets:
            X = X + self.weights[POSITION_TABLE][:, first : first + tokens.shape[1]]
        norm_backward: Backward = _unchanged
        project_backward: Backward = _unchanged
        if self.config.embedding_norm:
            X, norm_backward = self.norm("encoder.ln", X)
        if self.config.embedding_width != self.config.num_hiddens:
            X, project_backward = self.dense("encoder.projection", X)
        return X, lambda d_X: norm_backward(project_backward(d_X))

    def segments(self, segments: Ids) -> Ids:
        return segments if self.config.pair_segments else np.zeros_like(segments)

    def block(self, i: int, X: Array) -> tuple[Array, Backward]:
        name = f"encoder.blks.{i}"
        _, heads, attention_backward = self.attention(f"{name}.attention", X)
        attended, W_o_backward = self.dense(f"{name}.attention.W_o", heads)
        Y, norm1_backward = self.norm(f"{name}.addnorm1.ln", attended + X)
        inner, dense1_backward = self.dense(f"{name}.ffn.dense1", Y)
        active, activation_backward = self.activation(inner)
        ffn, dense2_backward = self.dense(f"{name}.ffn.dense2", active)
        Z, norm2_backward = self.norm(f"{name}.addnorm2.ln", ffn + Y)

        def backward(d_Z: Array) -> Array:
            d_sum = norm2_backward(d_Z)
            d_Y = d_sum + dense1_backward(activation_backward(dense2_backward(d_sum)))
            d_sum = norm1_backward(d_Y)
            return d_sum + attention_backward(W_o_backward(d_sum))

        return Z, backward

    def attention(self, name: str, X: Array) -> tuple[Array, Array, Backward]:
        """Return the weights (B, h, T, T), the heads' outputs (B, T, H) and the backward pass."""
        layers = [self.dense(f"{name}.{projection}", X) for projection in ("W_q", "W_k", "W_v")]
        queries, keys, values = (self.split(Y) for Y, _ in layers)  # (B, h, T, d)
        scale = 1 / math.sqrt(self.config.score_terms * queries.shape[3])
        is_seen = np.asarray(True)
        if self.valid_lens is not None:  # (B, 1, 1 or T, T)
            limits = np.asarray(self.valid_lens).reshape(len(X), 1, -1, 1)
            is_seen = np.arange(X.shape[1]) < limits
        products = queries @ keys.swapaxes(2, 3)
        if self.config.position_buckets:
            added, distances_backward = self.distance_products(name, queries, keys)
            products = products + added
        scores = products * scale
        if self.config.relative_buckets:
            ranges = relative_ranges(self.config.relative_buckets, X.shape[1])
            scores = scores + self.weights[RELATIVE_TABLE][ranges].transpose(2, 0, 1)
        weights = _softmax(np.where(is_seen, scores, MASKED_SCORE))

        def backward(d_heads: Array) -> Array:
            d_out = self.split(d_heads)
            d_weights = d_out @ values.swapaxes(2, 3)
            d_scores = weights * (d_weights - (d_weights * weights).sum(axis=3, keepdims=True))
            d_scores = np.where(is_seen, d_scores, 0.0)
            if self.config.relative_buckets:  # shared by all blocks
                table = np.zeros_like(self.weights[RELATIVE_TABLE])
                np.add.at(table, ranges, d_scores.sum(axis=0).transpose(1, 2, 0))
                self.add_gradient(RELATIVE_TABLE, table)
            d_scores = d_scores * scale
            d_queries, d_keys = d_scores @ keys, d_scores.swapaxes(2, 3) @ queries
            if self.config.position_buckets:
                added_q, added_k = distances_backward(d_scores)
                d_queries, d_keys = d_queries + added_q, d_keys + added_k
            d_parts = (d_queries, d_keys, weights.swapaxes(2, 3) @ d_out)
            d_X = np.zeros_like(X)
            for (_, dense_backward), d_part in zip(layers, d_parts, strict=True):
                d_X += dense_backward(_join(d_part))
            return d_X

        return weights, _join(weights @ values), backward

    def distance_products(
        self, name: str, queries: Array, keys: Array
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        """Multiply queries and keys (B, h, T, d) with the keys and queries of distances.

        Returns:
            The sums of both products, (B, h, T, T), and the backward pass, which returns the
            gradients of queries and keys.
        """
        T, config = queries.shape[2], self.config
        of_key, of_query = distance_ranges(config.position_buckets, config.max_len, T)
        steps = np.arange(T) - np.arange(T)[:, None] + T  # from a row's token to a column's
        rows_k, rows_q = of_key[steps], of_query[steps.T]  # (T, T), query by key
        K, keys_backward = self.dense(f"{name}.W_k", self.distances)
        Q, queries_backward = self.dense(f"{name}.W_q", self.distances)
        K, Q = (vectors.reshape(len(vectors), config.num_heads, -1) for vectors in (K, Q))
        added = np.einsum("bhqd,qkhd->bhqk", queries, K[rows_k])
        added += np.einsum("bhkd,qkhd->bhqk", keys, Q[rows_q])

        def backward(d_added: Array) -> tuple[Array, Array]:
            d_K, d_Q = np.zeros_like(K), np.zeros_like(Q)
            np.add.at(d_K, rows_k, np.einsum("bhqk,bhqd->qkhd", d_added, queries))
            np.add.at(d_Q, rows_q, np.einsum("bhqk,bhkd->qkhd", d_added, keys))
            self.d_distances += keys_backward(d_K.reshape(len(d_K), -1))
            self.d_distances += queries_backward(d_Q.reshape(len(d_Q), -1))
            d_queries = np.einsum("bhqk,qkhd->bhqd", d_added, K[rows_k])
            d_keys = np.einsum("bhqk,qkhd->bhkd", d_added, Q[rows_q])
            return d_queries, d_keys

        return added, backward

    def distances_backward(self) -> None:
        self.grads[DISTANCE_TABLE] = self.norm_distances_backward(self.d_distances)

    def split(self, X: Array) -> Array:
        """Reshape (B, T, H) to (B, h, T, d), one slice per head."""
        return X.reshape(*X.shape[:2], self.config.num_heads, -1).swapaxes(1, 2)

    def add_gradient(self, name: str, gradient: Array) -> None:
        """Add to the gradient of a tensor that a net may use several times."""
        self.grads[name] = self.grads.get(name, 0) + gradient

    def dense(self, name: str, X: Array) -> tuple[Array, Backward]:
        weight = self.weights[f"{name}.weight"]

        def backward(d_Y: Array) -> Array:
            rows = d_Y.reshape(-1, d_Y.shape[-1])
            self.add_gradient(f"{name}.weight", rows.T @ X.reshape(-1, X.shape[-1]))
            self.add_gradient(f"{name}.bias", rows.sum(axis=0))
            return d_Y @ weight

        return X @ weight.T + self.weights[f"{name}.bias"], backward

    def norm(self, name: str, X: Array) -> tuple[Array, Backward]:
        weight = self.weights[f"{name}.weight"]
        deviation = np.sqrt(X.var(axis=-1, keepdims=True) + self.config.norm_eps)
        normed = (X - X.mean(axis=-1, keepdims=True)) / deviation

        def backward(d_Y: Array) -> Array:
            rows = tuple(range(X.ndim - 1))
            self.grads[f"{name}.weight"] = (d_Y * normed).sum(axis=rows)
            self.grads[f"{name}.bias"] = d_Y.sum(axis=rows)
            d_normed = d_Y * weight
            along = (d_normed * normed).mean(axis=-1, keepdims=True)
            return (d_normed - d_normed.mean(axis=-1, keepdims=True) - normed * along) / deviation

        return normed * weight + self.weights[f"{name}.bias"], backward

    def pool(self, X: Array) -> tuple[Array, Backward]:
        hidden, dense_backward = self.dense("hidden", X)
        pooled, activation_backward = self.activation(hidden, self.config.pooler_activation)
        return pooled, lambda d_pooled: dense_backward(activation_backward(d_pooled))

    def activation(self, X: Array, name: str = "") -> tuple[Array, Backward]:
        """Apply ReLU, tanh, or GELU (Hendrycks and Gimpel, 2016), which is X times a gate."""
        name = name or self.config.activation
        if name == "relu":
            return np.maximum(X, 0.0), lambda d_Y: d_Y * (X > 0)
        if name == "tanh":
            Y = np.tanh(X)
            return Y, lambda d_Y: d_Y * (1 - Y**2)
        if name == "gelu":
            gate = 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(X / math.sqrt(2)))
            slope = np.exp(-(X**2) / 2) / math.sqrt(2 * math.pi)
        else:
            factor = math.sqrt(2 / math.pi)
            gate = 0.5 * (1 + np.tanh(factor * (X + 0.044715 * X**3)))
            slope = 2 * gate * (1 - gate) * factor * (1 + 3 * 0.044715 * X**2)
        return X * gate, lambda d_Y: d_Y * (gate + X * slope)


def _unchanged(d_X: Array) -> Array:
    return d_X


def _join(X: Array) -> Array:
    """Reshape (B, h, T, d) to (B, T, H), the inverse of `_Net.split`."""
    return X.swapaxes(1, 2).reshape(X.shape[0], X.shape[2], -1)


def _softmax(X: Array) -> Array:
    exponentials = np.exp(X - X.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _ids(values: ArrayLike) -> Ids:
    return np.asarray(values).astype(np.int64)
