"""Export a classifier or a BERT as an ONNX graph, without PyTorch and MXNet.

The graph is built from the tensors, not traced. It takes batches of any size and length. In the
last block of a classifier only the position of ``<cls>`` is computed.

Inputs, int64, (batch, tokens): ``input_ids``, ``attention_mask`` (1 for a token, 0 for padding),
``token_type_ids``. Outputs, float32: for a classifier ``logits`` (batch, labels); for a BERT
``last_hidden_state`` (batch, tokens, hiddens) and ``pooler_output`` (batch, hiddens).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert import referee
from bertnli.bert.parameters import (
    DISTANCE_TABLE,
    POSITION_TABLE,
    RELATIVE_TABLE,
    SEGMENT_TABLE,
    TOKEN_TABLE,
)
from bertnli.bert.positions import distance_ranges, relative_ranges
from bertnli.data.batches import Batch
from bertnli.errors import BackendError, CheckpointError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.version import __version__

#: The first opset with an operator for layer normalisation.
OPSET, IR_VERSION = 17, 8
MODEL, INT8 = "model.onnx", "model.int8.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
#: Largest size of a file of protocol buffers, less room for the graph itself.
MAX_BYTES = 2**31 - 2**20
#: Largest difference of outputs from the referee's, relative to the largest output (or 1).
TOLERANCE = 1e-4
#: Shapes, (pairs, tokens), of the batches on which a graph is checked.
CHECKED = ((1, 1), (3, 7), (8, 24), (2, 64))


def write_onnx(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model as an ONNX file, and compare its outputs with `bertnli.bert.referee`'s.

    Pretraining heads are left out. The file's metadata have sizes, class names and how pairs are
    truncated, as JSON.
    """
    onnx, _ = _packages()
    used = {k: a for k, a in checkpoint.arrays.items() if not k.startswith(("mlm.", "nsp."))}
    if sum(array.size for array in used.values()) * 4 > MAX_BYTES:
        raise CheckpointError(
            f"{checkpoint.source} has over 2 GB of tensors, more than one file of ONNX can hold"
        )
    with _package_errors(checkpoint.source):
        model = _Graph(onnx, checkpoint).model()
        onnx.checker.check_model(model, full_check=True)
        onnx.save_model(model, str(path))
    difference = largest_difference(path, checkpoint)
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"onnxruntime computes something else from the graph than {checkpoint.source} says: "
            f"{difference:.1e} of the largest output, {TOLERANCE:g} allowed"
        )


def quantize(path: Path, target: Path) -> None:
    """Write the int8 version of an ONNX file: weights quantized, activations quantized at run time.

    The scales of matrices are per column; the embedding has one scale.
    """
    _packages()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)  # it recommends a step that changes nothing here
    try:
        with _package_errors(str(path)):
            quantize_dynamic(str(path), str(target), per_channel=True, weight_type=QuantType.QInt8)
    finally:
        root.setLevel(before)


class OnnxModel:
    """An ONNX file, loaded in onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        _, runtime = _packages()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        with _package_errors(str(path)):
            self.session = runtime.InferenceSession(str(path), options, providers=providers)

    def outputs(self, batch: Batch) -> list[NDArray[np.float32]]:
        """Compute the logits of a classifier, or a BERT's last hidden state and pooler output."""
        mask = np.arange(batch.token_ids.shape[1]) < batch.valid_lens[:, None]
        values = (batch.token_ids, mask, batch.segments)
        feeds = {n: v.astype(np.int64) for n, v in zip(INPUTS, values, strict=True)}
        with _package_errors("the graph"):
            outputs: list[NDArray[np.float32]] = self.session.run(None, feeds)
        return outputs


def largest_difference(path: Path, checkpoint: Checkpoint) -> float:
    """Compare the outputs of an ONNX file with `bertnli.bert.referee`'s on random batches.

    Returns:
        The largest difference, relative to the largest output (or 1) of its batch.
    """
    model, config = OnnxModel(path), checkpoint.config
    rng = np.random.default_rng(0)
    difference = 0.0
    for size, width in CHECKED:
        width = min(width, config.max_len)
        lens = rng.integers(1, width + 1, size).astype(np.int32)
        lens[0] = width
        ids = rng.integers(0, config.vocab_size, (size, width)).astype(np.int32)
        segments = (np.arange(width) >= lens[:, None] // 2).astype(np.int32)
        expected = referee.forward(checkpoint.arrays, config, ids, segments, lens)
        arrays = [expected.encoded, expected.pooled]
        if expected.logits is not None:
            arrays = [expected.logits]
        outputs = model.outputs(Batch(ids, segments, lens, np.zeros(size, np.int32)))
        for array, output in zip(arrays, outputs, strict=True):
            scale = max(1.0, float(np.abs(array).max()))
            # NumPy's maximum is NaN if an argument is NaN; Python's max may drop it.
            difference = float(np.maximum(difference, np.abs(array - output).max() / scale))
    return difference


class _Graph:
    """A graph under construction; its methods add nodes and return the name of the output."""

    def __init__(self, onnx: Any, checkpoint: Checkpoint) -> None:
        self.onnx, self.helper, self.checkpoint = onnx, onnx.helper, checkpoint
        self.arrays, self.config = checkpoint.arrays, checkpoint.config
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def model(self) -> Any:
        """Build the complete ONNX model, with its metadata."""
        labels, hiddens = self.checkpoint.labels, self.config.num_hiddens
        types, value = self.onnx.TensorProto, self.helper.make_tensor_value_info
        X = self.embedded()
        mask = self.node("Cast", "attention_mask", to=types.FLOAT)
        hidden = self.node("Mul", self.node("Sub", self.number(1), mask), self.number(-1e30))
        bias = self.node("Unsqueeze", hidden, self.integers(1, 2))  # (B, 1, 1, T)
        bias = self.with_relative(bias)
        distances = self.distances() if self.config.position_buckets else ()
        for i in range(self.config.num_blks):
            cls_only = labels is not None and i == self.config.num_blks - 1
            X = self.block(f"encoder.blks.{i}", X, bias, cls_only, distances)
        cls = self.node("Gather", X, self.constant("first", np.array(0, np.int64)), axis=1)
        pooled = self.activated(self.dense("hidden", cls), self.config.pooler_activation)
        pooled = self.node("Identity", pooled, output="pooler_output")
        shapes: dict[str, tuple[str | int, ...]] = {pooled: ("batch", hiddens)}
        if labels is None:
            X = self.node("Identity", X, output="last_hidden_state")
            shapes = {X: ("batch", "tokens", hiddens)} | shapes
        else:
            shapes = {self.dense("output", pooled, output="logits"): ("batch", len(labels))}
        graph = self.helper.make_graph(
            self.nodes,
            "bertnli",
            [value(name, types.INT64, ("batch", "tokens")) for name in INPUTS],
            [value(name, types.FLOAT, shape) for name, shape in shapes.items()],
            list(self.constants.values()),
        )
        model = self.helper.make_model(
            graph,
            producer_name="bertnli",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[self.helper.make_opsetid("", OPSET)],
        )
        description = self.checkpoint.description().items()
        self.helper.set_model_props(model, {key: json.dumps(value) for key, value in description})
        return model

    def embedded(self) -> str:
        config = self.config
        X = self.node("Gather", self.constant(TOKEN_TABLE), "input_ids")
        if config.num_segments:
            factor = self.integers(int(config.pair_segments))
            segments = self.node("Mul", "token_type_ids", factor)
            X = self.node("Add", X, self.node("Gather", self.constant(SEGMENT_TABLE), segments))
        if not config.position_buckets:
            rows = self.arrays[POSITION_TABLE][0, config.first_position :]
            positions = self.constant(POSITION_TABLE, rows)
            width = self.node("Shape", "input_ids", start=1, end=2)
            positions = self.node("Slice", positions, self.integers(0), width, self.integers(0))
            X = self.node("Add", X, positions)
        X = self.norm("encoder.ln", X) if config.embedding_norm else X
        projects = config.embedding_width != config.num_hiddens
        return self.dense("encoder.projection", X) if projects else X

    def with_relative(self, bias: str) -> str:
        """Add the biases of relative positions, if there are any, to the mask (B, 1, 1, T)."""
        config = self.config
        if not config.relative_buckets:
            return bias
        all_ranges = relative_ranges(config.relative_buckets, config.max_len)
        width = self.node("Shape", "input_ids", start=1, end=2)
        ends = self.node("Concat", width, width, axis=0)
        ranges = self.constant("relative ranges", all_ranges)
        ranges = self.node("Slice", ranges, self.integers(0, 0), ends, self.integers(0, 1))
        near = self.node("Gather", self.constant(RELATIVE_TABLE), ranges)  # (T, T, h)
        return self.node("Add", self.node("Transpose", near, perm=[2, 0, 1]), bias)

    def distances(self) -> tuple[str, ...]:
        """Add the normalised vectors of the distances of T tokens, for keys and for queries.

        Returns:
            Both, (2 T, H), the number T, (1,), and 2 T - 1 (1,).
        """
        config = self.config
        width = self.node("Shape", "input_ids", start=1, end=2)
        middle = self.integers(config.max_len)
        first, end = self.node("Sub", middle, width), self.node("Add", middle, width)
        table = self.norm("encoder.distances.ln", self.constant(DISTANCE_TABLE))
        vectors = []
        all_ranges = distance_ranges(config.position_buckets, config.max_len, config.max_len)
        for kind, ranges in zip(("key", "query"), all_ranges, strict=True):
            near = self.constant(f"{kind} distances", ranges)
            near = self.node("Slice", near, first, end, self.integers(0))
            vectors.append(self.node("Gather", table, near))
        columns = self.node("Sub", self.node("Add", width, width), self.integers(1))
        return *vectors, width, columns

    def distance_products(self, layer: str, X: str, vectors: str, T: str, columns: str) -> str:
        """Multiply each token's vector X (B, h, T, d) with that of its distance to each token.

        Returns:
            (B, h, T, T), as `distance_products` of a backend.
        """
        config = self.config
        shape = self.integers(0, config.num_heads, config.num_hiddens // config.num_heads)
        split = self.node("Reshape", self.dense(layer, vectors), shape)
        products = self.node("MatMul", X, self.node("Transpose", split, perm=[1, 2, 0]))
        flat = self.node("Reshape", products, self.integers(0, 0, -1))
        flat = self.node("Slice", flat, T, self.integers(2**31), self.integers(2))
        shape = self.node("Concat", self.integers(0, 0), T, columns, axis=0)
        rows = self.node("Reshape", flat, shape)
        return self.node("Slice", rows, self.integers(0), T, self.integers(3))

    def block(
        self, name: str, X: str, bias: str, cls_only: bool, distances: tuple[str, ...]
    ) -> str:
        config, width = self.config, self.config.num_hiddens // self.config.num_heads
        heads = self.integers(0, 0, config.num_heads, width)

        def first(Y: str, axis: int) -> str:
            ends = self.integers(0), self.integers(1), self.integers(axis)
            return self.node("Slice", Y, *ends) if cls_only else Y

        rows = first(X, 1)

        def split(layer: str, inputs: str, order: list[int]) -> str:
            Y = self.dense(f"{name}.attention.{layer}", inputs)
            return self.node("Transpose", self.node("Reshape", Y, heads), perm=order)

        queries = split("W_q", X if distances else rows, [0, 2, 1, 3])
        keys = split("W_k", X, [0, 2, 3, 1])
        scores = self.node("MatMul", queries, keys)  # (B, h, Q, T)
        if distances:
            of_key, of_query, *sizes = distances
            attention = f"{name}.attention"
            added = self.distance_products(f"{attention}.W_k", queries, of_key, *sizes)
            scores = self.node("Add", scores, added)
            keys = self.node("Transpose", keys, perm=[0, 1, 3, 2])
            added = self.distance_products(f"{attention}.W_q", keys, of_query, *sizes)
            added = self.node("Transpose", added, perm=[0, 1, 3, 2])
            scores = first(self.node("Add", scores, added), 2)
        scores = self.node("Div", scores, self.number(math.sqrt(config.score_terms * width)))
        if config.relative_buckets:
            bias = first(bias, 2)  # (B, h, Q, T)
        weights = self.node("Softmax", self.node("Add", scores, bias), axis=-1)
        mixed = self.node("MatMul", weights, split("W_v", X, [0, 2, 1, 3]))
        mixed = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        joined = self.node("Reshape", mixed, self.integers(0, 0, config.num_hiddens))
        Y = self.node("Add", self.dense(f"{name}.attention.W_o", joined), rows)
        Y = self.norm(f"{name}.addnorm1.ln", Y)
        inner = self.activated(self.dense(f"{name}.ffn.dense1", Y), config.activation)
        Z = self.dense(f"{name}.ffn.dense2", inner)
        return self.norm(f"{name}.addnorm2.ln", self.node("Add", Z, Y))

    def activated(self, X: str, name: str) -> str:
        if name in ("relu", "tanh"):
            return self.node(name.capitalize(), X)
        if name == "gelu":
            inner = self.node("Erf", self.node("Div", X, self.number(math.sqrt(2))))
        else:
            cube = self.node("Mul", self.node("Mul", X, X), X)
            sum_ = self.node("Add", X, self.node("Mul", cube, self.number(0.044715)))
            inner = self.node("Tanh", self.node("Mul", sum_, self.number(math.sqrt(2 / math.pi))))
        grown = self.node("Mul", X, self.node("Add", inner, self.number(1)))
        return self.node("Mul", grown, self.number(0.5))

    def dense(self, name: str, X: str, output: str = "") -> str:
        weight = self.constant(f"{name}.weight", self.arrays[f"{name}.weight"].T)  # (in, out)
        product = self.node("MatMul", X, weight)
        return self.node("Add", product, self.constant(f"{name}.bias"), output=output)

    def norm(self, name: str, X: str) -> str:
        weights = (self.constant(f"{name}.{leaf}") for leaf in ("weight", "bias"))
        eps = self.config.norm_eps
        return self.node("LayerNormalization", X, *weights, axis=-1, epsilon=eps)

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        node = self.helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes)
        self.nodes.append(node)
        return output

    def number(self, value: float) -> str:
        return self.constant(f"number {value!r}", np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(f"integers {values}", np.array(values, np.int64))

    def constant(self, name: str, array: NDArray | None = None) -> str:
        """Add a constant, unless it is there; by default the model's tensor ``name``."""
        if name not in self.constants:
            array = self.arrays[name] if array is None else array
            dtype = np.float32 if array.dtype.kind == "f" else array.dtype
            ordered = np.array(array, dtype, order="C")
            self.constants[name] = self.onnx.numpy_helper.from_array(ordered, name)
        return name


@contextmanager
def _package_errors(what: str) -> Iterator[None]:
    """Context manager that converts any exception to a CheckpointError about ``what``."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{what}: {error}") from error


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            'ONNX needs the packages onnx and onnxruntime: pip install "bertnli[onnx]"'
        ) from error
    return onnx, onnxruntime
