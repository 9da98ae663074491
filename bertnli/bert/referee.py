"""The model in float64 NumPy: outputs, losses, gradients and Adam, to judge the backends by.

It follows the book's formulas term by term and is meant to be read, not to be fast. The gradients
are derived by hand; the tests check them against central differences. Shapes in comments: B pairs,
T tokens, H num_hiddens, F ffn_num_hiddens, h heads, d = H / h, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import encoder_shapes

Array = NDArray[np.float64]
Arrays = dict[str, Array]

#: What replaces the score of a key that is padding: -1e6 in the book; below any score here, as on
#: the backends.
MASKED_SCORE = -1e30
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class RefereeOutput:
    """What `forward` computes, all float64.

    Args:
        layers: (B, T, H) each: what the first block gets, and what each block makes of it.
        pooled: (B, H), the vector that the sentence-pair heads see.
        mlm_logits: (B, P, V), or None without positions or without that head's tensors.
        nsp_logits: (B, 2), or None without that head's tensors.
        logits: (B, C) of the classifier, or None without its output layer.
    """

    layers: tuple[Array, ...]
    pooled: Array
    mlm_logits: Array | None
    nsp_logits: Array | None
    logits: Array | None

    @property
    def encoded(self) -> Array:
        """What the last block makes, (B, T, H)."""
        return self.layers[-1]


def forward(
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    token_ids: ArrayLike,
    segments: ArrayLike,
    valid_lens: ArrayLike | None = None,
    pred_positions: ArrayLike | None = None,
) -> RefereeOutput:
    """Return what a model without dropout computes from these tensors.

    Args:
        arrays: canonical name to tensor; a head is computed if its tensors are among them.
        config: of its sizes only the numbers of heads and of blocks are used.
        token_ids, segments: (B, T) integers.
        valid_lens: tokens that are not padding, (B,), or (B, T) for each query; None for no limit.
        pred_positions: (B, P) integers, the positions whose tokens the MLM head predicts.
    """
    weights = _float64(arrays)
    encoded, inputs = _encode(weights, config, token_ids, segments, valid_lens)
    pooled = np.tanh(_dense(weights, "hidden", encoded[:, 0]))
    mlm_logits = None
    if pred_positions is not None and "mlm.dense.weight" in weights:
        positions = np.asarray(pred_positions).astype(np.int64)
        chosen = np.take_along_axis(encoded, positions[:, :, None], axis=1)  # (B, P, H)
        active = _activation(config, _dense(weights, "mlm.dense", chosen))
        normed, _ = _layer_norm(weights, config, "mlm.ln", active)
        mlm_logits = _dense(weights, "mlm.decoder", normed)

    def head(name: str) -> Array | None:
        return _dense(weights, name, pooled) if f"{name}.weight" in weights else None

    layers = (*(given.X for given in inputs), encoded)
    return RefereeOutput(layers, pooled, mlm_logits, head("nsp.output"), head("output"))


def losses(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Return the cross-entropy of each pair in nats, (B,).

    Args:
        logits: (B, C).
        labels: (B,) class ids.
    """
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
    """Return the gradient of a batch's mean loss by every tensor of the classifier.

    Args:
        arrays: canonical name to tensor, of a classifier; further tensors are ignored.
        config, token_ids, segments, valid_lens: see `forward`.
        labels: (B,) class ids.

    Returns:
        Canonical name to gradient, float64, of the tensor's shape.
    """
    weights = _float64(arrays)
    encoded, block_inputs = _encode(weights, config, token_ids, segments, valid_lens)
    pooled = np.tanh(_dense(weights, "hidden", encoded[:, 0]))
    classes = _ids(labels)
    grads: Arrays = {}

    d_logits = _softmax(_dense(weights, "output", pooled))
    d_logits[np.arange(len(classes)), classes] -= 1
    d_logits /= len(classes)
    d_pooled = _dense_backward(weights, grads, "output", pooled, d_logits)
    d_hidden = d_pooled * (1 - pooled**2)
    d_encoded = np.zeros_like(encoded)
    d_encoded[:, 0] = _dense_backward(weights, grads, "hidden", encoded[:, 0], d_hidden)

    for i in reversed(range(config.num_blks)):
        d_encoded = _block_backward(weights, grads, i, config, block_inputs[i], d_encoded)
    if config.embedding_norm:
        X = _embed(weights, token_ids, segments)
        _, normed = _layer_norm(weights, config, "encoder.ln", X)
        d_encoded = _layer_norm_backward(weights, grads, config, "encoder.ln", X, normed, d_encoded)

    for name in ("pos_embedding", "token_embedding.weight", "segment_embedding.weight"):
        grads[f"encoder.{name}"] = np.zeros_like(weights[f"encoder.{name}"])
    grads["encoder.pos_embedding"][0, : encoded.shape[1]] = d_encoded.sum(axis=0)
    np.add.at(grads["encoder.token_embedding.weight"], _ids(token_ids), d_encoded)
    np.add.at(grads["encoder.segment_embedding.weight"], _ids(segments), d_encoded)
    order = [*encoder_shapes(config), "output.weight", "output.bias"]
    return {name: grads[name] for name in order}


def attention_weights(
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    block: int,
    X: ArrayLike,
    valid_lens: ArrayLike | None = None,
) -> Array:
    """Return how much each token takes from each in a block, (B, h, T, T); rows sum to 1.

    Args:
        arrays: canonical name to tensor, those of the block's attention among them.
        config: of its sizes only the number of heads is used.
        block: its number, from 0.
        X: (B, T, H), what the block gets; see `RefereeOutput.layers`.
        valid_lens: see `forward`.
    """
    name = f"encoder.blks.{block}"
    weights = _float64({n: a for n, a in arrays.items() if n.startswith(f"{name}.attention.")})
    given = _BlockInput(np.asarray(X, np.float64), _mask(valid_lens, np.shape(X)))
    return _attend(weights, name, config, given).probabilities


def adam_step(
    weights: Mapping[str, NDArray],
    grads: Mapping[str, NDArray],
    m: Arrays,
    v: Arrays,
    step: int,
    lr: float,
) -> Arrays:
    """Return the weights after a step of Adam (Kingma and Ba, 2015), by torch.optim.Adam's formula.

    Args:
        weights, grads: canonical name to tensor.
        m, v: the moments after the step before, empty before the first; replaced in place.
        step: number of this step, from 1.
        lr: learning rate.
    """
    updated = {}
    for name, weight in _float64(weights).items():
        grad = np.asarray(grads[name], np.float64)
        m[name] = BETA1 * m.get(name, 0.0) + (1 - BETA1) * grad
        v[name] = BETA2 * v.get(name, 0.0) + (1 - BETA2) * grad**2
        m_hat, v_hat = m[name] / (1 - BETA1**step), v[name] / (1 - BETA2**step)
        updated[name] = weight - lr * m_hat / (np.sqrt(v_hat) + ADAM_EPSILON)
    return updated


@dataclass(frozen=True)
class _BlockInput:
    """What a block was given; its inner values are computed again on the way back."""

    X: Array
    mask: NDArray[np.bool_] | None


@dataclass(frozen=True)
class _Attention:
    """Inner values of self-attention: (B, h, T, d), scores (B, h, T, T), heads joined (B, T, H)."""

    queries: Array
    keys: Array
    values: Array
    probabilities: Array
    joined: Array


def _embed(weights: Arrays, token_ids: ArrayLike, segments: ArrayLike) -> Array:
    tokens = _ids(token_ids)
    X = weights["encoder.token_embedding.weight"][tokens]
    X = X + weights["encoder.segment_embedding.weight"][_ids(segments)]
    return X + weights["encoder.pos_embedding"][:, : tokens.shape[1]]


def _encode(
    weights: Arrays,
    config: BERTConfig,
    token_ids: ArrayLike,
    segments: ArrayLike,
    valid_lens: ArrayLike | None,
) -> tuple[Array, list[_BlockInput]]:
    X = _embed(weights, token_ids, segments)
    if config.embedding_norm:
        X, _ = _layer_norm(weights, config, "encoder.ln", X)
    mask = _mask(valid_lens, X.shape)
    inputs = []
    for i in range(config.num_blks):
        inputs.append(_BlockInput(X, mask))
        block = f"encoder.blks.{i}"
        attention = _attend(weights, block, config, inputs[-1])
        Y = _dense(weights, f"{block}.attention.W_o", attention.joined)
        Y, _ = _layer_norm(weights, config, f"{block}.addnorm1.ln", Y + X)
        ffn = _activation(config, _dense(weights, f"{block}.ffn.dense1", Y))
        ffn = _dense(weights, f"{block}.ffn.dense2", ffn)
        X, _ = _layer_norm(weights, config, f"{block}.addnorm2.ln", ffn + Y)
    return X, inputs


def _mask(valid_lens: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return which keys are seen by which queries of X, of a shape (B, T, H)."""
    if valid_lens is None:
        return None
    limits = np.asarray(valid_lens).reshape(shape[0], 1, -1, 1)
    return np.asarray(np.arange(shape[1]) < limits)  # (B, 1, 1 or T, T)


def _attend(weights: Arrays, block: str, config: BERTConfig, given: _BlockInput) -> _Attention:
    queries, keys, values = (
        _split_heads(_dense(weights, f"{block}.attention.{name}", given.X), config.num_heads)
        for name in ("W_q", "W_k", "W_v")
    )
    scores = queries @ keys.swapaxes(2, 3) / math.sqrt(queries.shape[3])  # (B, h, T, T)
    if given.mask is not None:
        scores = np.where(given.mask, scores, MASKED_SCORE)
    probabilities = _softmax(scores)
    return _Attention(queries, keys, values, probabilities, _join_heads(probabilities @ values))


def _block_backward(
    weights: Arrays, grads: Arrays, i: int, config: BERTConfig, given: _BlockInput, d_out: Array
) -> Array:
    """Add a block's gradients to ``grads``; return the gradient by the block's input."""
    block = f"encoder.blks.{i}"
    X = given.X
    attention = _attend(weights, block, config, given)
    Y_sum = _dense(weights, f"{block}.attention.W_o", attention.joined) + X
    Y, Y_normed = _layer_norm(weights, config, f"{block}.addnorm1.ln", Y_sum)
    ffn_sum = _dense(weights, f"{block}.ffn.dense1", Y)
    ffn_inner = _activation(config, ffn_sum)
    Z_sum = _dense(weights, f"{block}.ffn.dense2", ffn_inner) + Y
    _, Z_normed = _layer_norm(weights, config, f"{block}.addnorm2.ln", Z_sum)

    d_Z_sum = _layer_norm_backward(
        weights, grads, config, f"{block}.addnorm2.ln", Z_sum, Z_normed, d_out
    )
    d_inner = _dense_backward(weights, grads, f"{block}.ffn.dense2", ffn_inner, d_Z_sum)
    d_inner = d_inner * _activation_slope(config, ffn_sum)
    d_Y = d_Z_sum + _dense_backward(weights, grads, f"{block}.ffn.dense1", Y, d_inner)
    d_Y_sum = _layer_norm_backward(
        weights, grads, config, f"{block}.addnorm1.ln", Y_sum, Y_normed, d_Y
    )

    name = f"{block}.attention"
    d_joined = _dense_backward(weights, grads, f"{name}.W_o", attention.joined, d_Y_sum)
    d_heads = _split_heads(d_joined, config.num_heads)  # (B, h, T, d)
    probabilities = attention.probabilities
    d_values = probabilities.swapaxes(2, 3) @ d_heads
    d_probabilities = d_heads @ attention.values.swapaxes(2, 3)
    inner = (d_probabilities * probabilities).sum(axis=3, keepdims=True)
    d_scores = probabilities * (d_probabilities - inner)
    if given.mask is not None:
        d_scores = np.where(given.mask, d_scores, 0.0)
    d_scores = d_scores / math.sqrt(d_heads.shape[3])
    d_queries = d_scores @ attention.keys
    d_keys = d_scores.swapaxes(2, 3) @ attention.queries
    d_X = d_Y_sum
    for projection, d_part in (("W_q", d_queries), ("W_k", d_keys), ("W_v", d_values)):
        d_X = d_X + _dense_backward(weights, grads, f"{name}.{projection}", X, _join_heads(d_part))
    return d_X


def _dense(weights: Arrays, name: str, X: Array) -> Array:
    return X @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _dense_backward(weights: Arrays, grads: Arrays, name: str, X: Array, d_out: Array) -> Array:
    flat = d_out.reshape(-1, d_out.shape[-1])
    grads[f"{name}.weight"] = flat.T @ X.reshape(-1, X.shape[-1])
    grads[f"{name}.bias"] = flat.sum(axis=0)
    return d_out @ weights[f"{name}.weight"]


def _layer_norm(weights: Arrays, config: BERTConfig, name: str, X: Array) -> tuple[Array, Array]:
    """Return the layer's output, and X normalised, before scale and shift."""
    normed = (X - X.mean(axis=-1, keepdims=True)) / _deviation(config, X)
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"], normed


def _deviation(config: BERTConfig, X: Array) -> Array:
    return np.sqrt(X.var(axis=-1, keepdims=True) + config.norm_eps)


def _layer_norm_backward(
    weights: Arrays,
    grads: Arrays,
    config: BERTConfig,
    name: str,
    X: Array,
    normed: Array,
    d_out: Array,
) -> Array:
    axes = tuple(range(X.ndim - 1))
    grads[f"{name}.weight"] = (d_out * normed).sum(axis=axes)
    grads[f"{name}.bias"] = d_out.sum(axis=axes)
    d_normed = d_out * weights[f"{name}.weight"]
    centred = d_normed - d_normed.mean(axis=-1, keepdims=True)
    along = (d_normed * normed).mean(axis=-1, keepdims=True)
    return (centred - normed * along) / _deviation(config, X)


def _activation(config: BERTConfig, X: Array) -> Array:
    if config.activation == "relu":
        return np.maximum(X, 0.0)
    return X * _gate(config, X)


def _activation_slope(config: BERTConfig, X: Array) -> Array:
    """Return the derivative of the activation at X."""
    if config.activation == "relu":
        return (X > 0).astype(np.float64)
    if config.activation == "gelu":
        return _gate(config, X) + X * np.exp(-(X**2) / 2) / math.sqrt(2 * math.pi)
    inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * X**2)
    gate = _gate(config, X)
    return gate + X * 2 * gate * (1 - gate) * inner_slope


def _gate(config: BERTConfig, X: Array) -> Array:
    """Return what GELU multiplies X by (Hendrycks and Gimpel, 2016)."""
    if config.activation == "gelu":
        return 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(X / math.sqrt(2)))
    return 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))


def _softmax(X: Array) -> Array:
    exponentials = np.exp(X - X.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _split_heads(X: Array, num_heads: int) -> Array:
    return X.reshape(*X.shape[:2], num_heads, -1).swapaxes(1, 2)  # (B, T, H) -> (B, h, T, d)


def _join_heads(X: Array) -> Array:
    return X.swapaxes(1, 2).reshape(X.shape[0], X.shape[2], -1)  # (B, h, T, d) -> (B, T, H)


def _float64(arrays: Mapping[str, NDArray]) -> Arrays:
    return {name: np.asarray(array, np.float64) for name, array in arrays.items()}


def _ids(values: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(values).astype(np.int64)
