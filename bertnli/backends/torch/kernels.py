"""Fast CPU versions of the operations that take most of a training step.

Each agrees with PyTorch's operation to rounding, and calls PyTorch's own on a GPU. Under
`torch.autocast` to bfloat16 only the matrix products are computed in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bertnli.backends.torch.positions import distance_products

# In fp32 oneDNN's matrix products are twice as fast as those of torch's BLAS on AMD's processors.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Compute ``x weight^T + bias``, (..., out), from x (..., in), then ReLU if ``relu``."""
    if x.device.type == "cpu":
        return _CPULinear.apply(x, weight, bias, relu)
    y = functional.linear(x, weight, bias)
    return y.relu() if relu else y


class _CPULinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            rows, weight = rows.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        y = _product(rows, weight, bias, relu)
        ctx.save_for_backward(rows, weight, y if relu else None)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, y = ctx.saved_tensors
        shape = gradients[0].shape
        g = gradients[0].reshape(-1, shape[-1]).to(rows.dtype)
        if y is not None:
            g = torch.ops.aten.threshold_backward(g, y, 0)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _product(g, weight.t()).view(*shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            # oneDNN is faster with the longer side first.
            tall = g.shape[1] < rows.shape[1]
            dw = _product(g.t(), rows.t()) if tall else _product(rows.t(), g.t()).t()
        return dx, dw, g.sum(0) if ctx.needs_input_grad[2] else None, None


def lookup_sum(a: Tensor, b: Tensor, rows_a: NDArray, rows_b: NDArray) -> Tensor:
    """Compute ``a[rows_a] + b[rows_b]``, (N, C), from tables a (A, C) and b (B, C)."""
    in_a, in_b = (torch.from_numpy(rows).to(a.device) for rows in (rows_a, rows_b))
    if a.device.type == "cpu":
        return _CPULookupSum.apply(a, b, in_a, in_b)
    return a.index_select(0, in_a) + b.index_select(0, in_b)


class _CPULookupSum(torch.autograd.Function):
    # The gradient of a lookup is a parallel sum here, while PyTorch's adds one row after the other.
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, rows_a: Tensor, rows_b: Tensor) -> Tensor:
        ctx.save_for_backward(rows_a, rows_b)
        ctx.num_rows = len(a), len(b)
        return a.index_select(0, rows_a).add_(b.index_select(0, rows_b))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        a, b = (
            g.new_zeros(count, g.shape[1]).index_add_(0, rows, g)
            for count, rows in zip(ctx.num_rows, ctx.saved_tensors, strict=True)
        )
        return a, b, None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    if _ONEDNN is not None and x.dtype == torch.float32:
        return _ONEDNN(x, weight, bias, "relu" if relu else "none", [], "")
    y = functional.linear(x, weight, bias)
    return y.relu_() if relu else y


class AttentionGroup(NamedTuple):
    """The row numbers of n pairs' queries, and of the keys and values to which they attend."""

    queries: Tensor  # (n, q)
    keys: Tensor  # (n, t)
    bias: Tensor | None  # (n, 1, t) float32, added to the scores to hide padding


class Groups(NamedTuple):
    """The groups whose attention is computed, and biases that they share."""

    buckets: Sequence[AttentionGroup]
    relative: Tensor | None = None  # (h, Q, T) float32, added to the scores of q <= Q, t <= T


def attention(
    queries: Tensor, keys_values: Tensor, groups: Groups, num_heads: int, dropout: Dropout
) -> Tensor:
    """Compute ``dropout(softmax(q k^T / sqrt(d) + bias)) v`` for all heads, (Q, H).

    Queries are (Q, H), keys and values side by side (N, 2 H). Each query is in one of the groups. A
    head has d = H / num_heads channels.
    """
    scale = (queries.shape[1] // num_heads) ** -0.5
    if queries.device.type == "cpu":
        settings = groups.buckets, num_heads, scale, dropout
        return _CPUAttention.apply(queries, keys_values, groups.relative, *settings)[0]
    heads = torch.zeros_like(queries)
    for group in groups.buckets:
        q = _heads(queries[group.queries], 1, num_heads)[0]
        k, v = _heads(keys_values[group.keys], 2, num_heads)
        bias = None if group.bias is None else group.bias.unsqueeze(1).to(q.dtype)
        if groups.relative is not None:
            near = groups.relative[:, : q.shape[2], : k.shape[2]].to(q.dtype)
            bias = near.expand(len(q), -1, -1, -1) if bias is None else near + bias
        p = dropout.p if dropout.active else 0.0
        mean = functional.scaled_dot_product_attention(q, k, v, bias, p)  # (n, h, q, d)
        rows = mean.transpose(1, 2).flatten(2).flatten(0, 1)  # (n q, H)
        heads = heads.index_copy(0, group.queries.flatten(), rows)
    return heads


def attention_to_rows(
    queries: Tensor, rows: Tensor, groups: Groups, scale: float, dropout: Dropout
) -> tuple[Tensor, Tensor]:
    """For each query compute a weighted mean of rows, (Q, H), and the sum of weights, (Q,).

    The weights are ``dropout(softmax(scale q rows^T + bias))``, of queries (Q, H) and rows (N, H)
    that ``groups`` bring together; their sum is 1 without dropout.
    """
    if queries.device.type == "cpu":
        settings = groups.buckets, 1, scale, dropout
        return _CPUAttention.apply(queries, rows, groups.relative, *settings)
    means, sums = torch.zeros_like(queries), queries.new_zeros(len(queries))
    for group in groups.buckets:
        seen = rows[group.keys]  # (n, t, H)
        scores = torch.bmm(queries[group.queries], seen.transpose(1, 2)) * scale
        if groups.relative is not None:
            scores = scores + groups.relative[:, : scores.shape[1], : scores.shape[2]]
        weights = (scores if group.bias is None else scores + group.bias).softmax(2)
        if dropout.active:
            weights = functional.dropout(weights, dropout.p)
        places = group.queries.flatten()
        means = means.index_copy(0, places, torch.bmm(weights, seen).flatten(0, 1))
        sums = sums.index_copy(0, places, weights.sum(2).flatten())
    return means, sums


def disentangled_attention(
    queries: Tensor,
    keys_values: Tensor,
    buckets: Sequence[AttentionGroup],
    distances: Tensor,
    num_heads: int,
    dropout: Dropout,
) -> Tensor:
    """Compute `attention` with scores that also depend on distances, (Q, H), in float32.

    ``distances`` are the keys and the queries of the distances -T to T - 1, (2, 2 T, H), of a key
    from a query and of a query from a key.
    """
    heads = torch.zeros_like(queries, dtype=torch.float32)
    longest = distances.shape[1] // 2
    near = distances.float().unflatten(2, (num_heads, -1))  # (2, 2 T, h, d)
    scale = (3 * near.shape[3]) ** -0.5
    for group in buckets:
        q = _heads(queries[group.queries].float(), 1, num_heads)[0]  # (n, h, t, d)
        k, v = _heads(keys_values[group.keys].float(), 2, num_heads)
        t = q.shape[2]
        K, Q = near[:, longest - t : longest + t]
        scores = q @ k.transpose(2, 3) + distance_products(q, K)
        scores = (scores + distance_products(k, Q).transpose(2, 3)) * scale
        if group.bias is not None:
            scores = scores + group.bias.unsqueeze(1)
        mean = dropout(scores.softmax(3)) @ v
        rows = mean.transpose(1, 2).flatten(2).flatten(0, 1)  # (n t, H)
        heads = heads.index_copy(0, group.queries.flatten(), rows)
    return heads


def _heads(rows: Tensor, parts: int, num_heads: int) -> Tensor:
    # From (n, t, parts * H) to (parts, n, h, t, d).
    return rows.unflatten(2, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4)


class _CPUAttention(torch.autograd.Function):
    """Attention by plain products in each group, twice as fast as fused attention on short pairs.

    ``apply`` returns the weighted means of the values and, for a single head, the sums of the
    weights. If keys_values are as wide as queries, they serve as both keys and values.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,
        queries: Tensor,
        keys_values: Tensor,
        relative: Tensor | None,
        buckets: Sequence[AttentionGroup],
        num_heads: int,
        scale: float,
        dropout: Dropout,
    ) -> tuple[Tensor, Tensor | None]:
        parts = keys_values.shape[1] // queries.shape[1]
        heads = torch.zeros_like(queries)
        sums = queries.new_zeros(len(queries)) if num_heads == 1 else None
        kept = []
        for group in buckets:
            q = _gather(queries, group.queries, 1, num_heads)[0]  # (n h, q, d)
            k_v = _gather(keys_values, group.keys, parts, num_heads)
            k, v = k_v[0], k_v[-1]  # (n h, t, d)
            if group.bias is None:
                bias, beta = q.new_empty(1, 1, 1), 0  # with beta=0 it is not read
            else:
                bias, beta = group.bias.repeat_interleave(num_heads, dim=0), 1
            scores = torch.baddbmm(bias, q, k.transpose(1, 2), beta=beta, alpha=scale)
            if relative is not None:  # to (n h, q, t) as (n, h, q, t)
                near = relative[:, : scores.shape[1], : scores.shape[2]]
                scores.unflatten(0, (-1, num_heads)).add_(near)
            weights = scores.softmax(2)  # (n h, q, t)
            mask = dropout.mask(weights) if dropout.active else None
            used = weights if mask is None else weights * mask
            _scatter(heads, group.queries, torch.bmm(used, v).unsqueeze(0), num_heads)
            if sums is not None:
                sums[group.queries] = used.sum(2)
            kept += [q, k, v, weights, mask]
        ctx.save_for_backward(*kept)
        ctx.buckets, ctx.num_heads, ctx.scale = buckets, num_heads, scale
        ctx.shape = keys_values.shape
        ctx.relative_shape = None if relative is None else relative.shape
        return heads, sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        g_heads, g_sums = gradients
        kept = iter(ctx.saved_tensors)
        g_queries = torch.zeros_like(g_heads)
        g_keys_values = g_heads.new_zeros(ctx.shape)
        shape = ctx.relative_shape
        g_relative = None if shape is None else g_heads.new_zeros(shape, dtype=torch.float32)
        shared = ctx.shape[1] == g_heads.shape[1]
        for group in ctx.buckets:
            q, k, v, weights, mask = (next(kept) for _ in range(5))
            g = _gather(g_heads, group.queries, 1, ctx.num_heads)[0]  # (n h, q, d)
            used = weights if mask is None else weights * mask
            g_v = torch.bmm(used.transpose(1, 2), g)
            g_weights = torch.bmm(g, v.transpose(1, 2))
            if g_sums is not None:
                g_weights += g_sums[group.queries].unsqueeze(2)
            if mask is not None:
                g_weights.mul_(mask)
            g_scores = torch.ops.aten._softmax_backward_data(g_weights, weights, 2, torch.float32)
            if g_relative is not None:
                near = g_relative[:, : g_scores.shape[1], : g_scores.shape[2]]
                near += g_scores.unflatten(0, (-1, ctx.num_heads)).sum(0)
            zero = q.new_empty(1, 1, 1)  # with beta=0 it is not read
            g_q = torch.baddbmm(zero, g_scores, k, beta=0, alpha=ctx.scale)
            _scatter(g_queries, group.queries, g_q.unsqueeze(0), ctx.num_heads)
            if shared:
                g_k_v = g_v.baddbmm_(g_scores.transpose(1, 2), q, alpha=ctx.scale).unsqueeze(0)
            else:
                g_k = torch.baddbmm(zero, g_scores.transpose(1, 2), q, beta=0, alpha=ctx.scale)
                g_k_v = torch.stack((g_k, g_v))
            _scatter(g_keys_values, group.keys, g_k_v, ctx.num_heads)
        return g_queries, g_keys_values, g_relative, None, None, None, None


def _gather(source: Tensor, rows: Tensor, parts: int, num_heads: int) -> Tensor:
    """Copy rows of a source (N, parts * H) into heads (parts, n * num_heads, t, d), float32.

    ``rows`` (n, t) are the row numbers of n pairs of t tokens; a head has d = H / num_heads
    channels.
    """
    taken = source.index_select(0, rows.flatten()).view(*rows.shape, -1)
    heads = _heads(taken, parts, num_heads)
    return heads.to(torch.float32, memory_format=torch.contiguous_format).flatten(1, 2)


def _scatter(target: Tensor, rows: Tensor, heads: Tensor, num_heads: int) -> None:
    """Write heads back into rows of a target (N, parts * H), the inverse of `_gather`.

    ``heads`` are (parts, n * num_heads, t, d), and ``rows`` (n, t) the row numbers.
    """
    values = heads.unflatten(1, (-1, num_heads)).permute(1, 3, 0, 2, 4)  # (n, t, parts, h, d)
    target.index_copy_(0, rows.flatten(), values.to(target.dtype).reshape(rows.numel(), -1))


class Dropout:
    """Applies a dropout layer, with masks that are drawn faster on a CPU.

    A mask takes 16 random bits per element: p is rounded to a multiple of 1 / 65536. Its generator
    is seeded by PyTorch's, so `torch.manual_seed` makes masks repeat.
    """

    def __init__(self, layer: nn.Dropout) -> None:
        self.p = layer.p
        self.active = layer.training and layer.p > 0

    def __call__(self, x: Tensor) -> Tensor:
        if not self.active:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        return x * self.mask(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.active:
            return x + y
        if x.device.type != "cpu":
            return x + functional.dropout(y, self.p)
        return torch.addcmul(x, y.to(x.dtype), self.mask(y))

    def mask(self, like: Tensor) -> Tensor:
        """Draw a float32 mask of a tensor's shape: 0 to drop an element, 1 / (1 - p) to keep it."""
        threshold = min(round(self.p * 65536), 65535)
        bits = np.random.SFC64(int(torch.randint(2**62, ())))
        raw = bits.random_raw(-(-like.numel() // 4)).view(np.int16)[: like.numel()]
        mask = torch.empty(like.shape, dtype=torch.float32)
        torch.ge(torch.from_numpy(raw).view(like.shape), threshold - 32768, out=mask)
        return mask.mul_(65536 / (65536 - threshold))
