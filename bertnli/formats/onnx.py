"""ONNX out: a classifier, or a BERT, as a graph that onnxruntime computes; no framework is needed.

The graph is written from the tensors, not traced: any batch and any length, no padding tricks, of a
classifier's last block only what ``<cls>`` needs. Inputs, int64, (batch, tokens): ``input_ids``,
``attention_mask`` (1 for a token, 0 for padding), ``token_type_ids``. Outputs, float32: ``logits``
(batch, labels) of a classifier; ``last_hidden_state`` (batch, tokens, hiddens) and
``pooler_output`` (batch, hiddens) of a BERT.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert import referee
from bertnli.bert.config import BERTConfig
from bertnli.data.batches import Batch
from bertnli.errors import BackendError, CheckpointError
from bertnli.formats.opening import Checkpoint
from bertnli.text.pairs import PairEncoding
from bertnli.version import __version__

#: The first with layer normalisation as an operator of its own.
OPSET, IR_VERSION = 17, 8
MODEL, INT8 = "model.onnx", "model.int8.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
#: What a file of protocol buffers can hold.
MAX_BYTES = 2**31 - 2**20
#: How far its outputs may be from the referee's, by the largest of them (or 1).
TOLERANCE = 1e-4
#: Pairs and tokens of the batches that a graph is checked on.
CHECKED = ((1, 1), (3, 7), (8, 24), (2, 64))


def write_onnx(path: Path, checkpoint: Checkpoint) -> None:
    """Write a graph, and check with onnxruntime that it computes what the tensors say.

    Class names, positions and sizes are in the file's metadata, as JSON.

    Args:
        path: of the new file.
        checkpoint: a classifier or a pretrained model, whose pretraining heads are left out.

    Raises:
        BackendError: the packages onnx and onnxruntime are missing.
        CheckpointError: it is too large for such a file, or its outputs differ from the referee's.
    """
    onnx, _ = _packages()
    if checkpoint.config.max_len == 1:
        raise CheckpointError(
            f"{checkpoint.source} has a single position, which a graph would spread over pairs "
            "that are too long, without an error"
        )
    used = {k: a for k, a in checkpoint.arrays.items() if not k.startswith(("mlm.", "nsp."))}
    if sum(array.size for array in used.values()) * 4 > MAX_BYTES:
        raise CheckpointError(
            f"{checkpoint.source} has over 2 GB of tensors, more than one file of ONNX can hold"
        )
    graph = _Graph(onnx, used, checkpoint.config, checkpoint.labels, checkpoint.encoding)
    with _own_errors(checkpoint.source):
        onnx.checker.check_model(graph.model, full_check=True)
        onnx.save_model(graph.model, str(path))
    apart = largest_difference(path, checkpoint)
    if not apart <= TOLERANCE:
        raise CheckpointError(
            f"onnxruntime computes something else from the graph than {checkpoint.source} says: "
            f"{apart:.1e} of the largest output, {TOLERANCE:g} allowed"
        )


def quantize(path: Path, target: Path) -> None:
    """Write a graph again with int8 weights; activations are quantized as they come.

    Matrices have a scale for each column, and the embedding one for all.
    """
    _packages()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)  # it recommends another step, which finds nothing in these graphs
    try:
        with _own_errors(str(path)):
            quantize_dynamic(str(path), str(target), per_channel=True, weight_type=QuantType.QInt8)
    finally:
        root.setLevel(before)


class OnnxModel:
    """A graph in onnxruntime.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        _, runtime = _packages()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        with _own_errors(str(path)):
            self.session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )

    def outputs(self, batch: Batch) -> list[NDArray[np.float32]]:
        """Return what the graph makes of a batch: the logits (B, labels), or a BERT's two."""
        width = batch.token_ids.shape[1]
        mask = np.arange(width) < batch.valid_lens[:, None]
        values = (batch.token_ids, mask, batch.segments)
        feeds = {n: v.astype(np.int64) for n, v in zip(INPUTS, values, strict=True)}
        with _own_errors("the graph"):
            found: list[NDArray[np.float32]] = self.session.run(None, feeds)
        return found


def largest_difference(path: Path, checkpoint: Checkpoint) -> float:
    """Return how far a graph's outputs are from the referee's, by the largest of them (or 1).

    Taken over random batches of several shapes, padded.
    """
    model, config = OnnxModel(path), checkpoint.config
    rng = np.random.default_rng(0)
    apart = 0.0
    for size, width in CHECKED:
        width = min(width, config.max_len)
        lens = rng.integers(1, width + 1, size).astype(np.int32)
        lens[0] = width
        batch = Batch(
            rng.integers(0, config.vocab_size, (size, width)).astype(np.int32),
            (np.arange(width) >= lens[:, None] // 2).astype(np.int32),
            lens,
            np.zeros(size, np.int32),
        )
        inputs = (batch.token_ids, batch.segments, batch.valid_lens)
        expected = referee.forward(checkpoint.arrays, config, *inputs)
        if expected.logits is not None:
            wanted = [expected.logits]
        else:
            wanted = [expected.encoded, expected.pooled]
        for ours, theirs in zip(wanted, model.outputs(batch), strict=True):
            scale = max(1.0, float(np.abs(ours).max()))
            # A NaN must not get lost in a maximum.
            apart = float(np.maximum(apart, np.abs(ours - theirs).max() / scale))
    return apart


class _Graph:
    """The graph under construction; methods add a node and return its output's name."""

    def __init__(
        self,
        onnx: Any,
        arrays: Mapping[str, NDArray],
        config: BERTConfig,
        labels: Sequence[str] | None,
        encoding: PairEncoding | None,
    ) -> None:
        self.onnx, self.arrays, self.config = onnx, arrays, config
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        if labels is None:
            hidden, width = config.num_hiddens, "tokens"
            outputs = {
                "last_hidden_state": ("batch", width, hidden),
                "pooler_output": ("batch", hidden),
            }
        else:
            outputs = {"logits": ("batch", len(labels))}
        self._build(labels is not None, list(outputs))
        helper, types = onnx.helper, onnx.TensorProto
        graph = helper.make_graph(
            self.nodes,
            "bertnli",
            [
                helper.make_tensor_value_info(name, types.INT64, ("batch", "tokens"))
                for name in INPUTS
            ],
            [
                helper.make_tensor_value_info(name, types.FLOAT, shape)
                for name, shape in outputs.items()
            ],
            list(self.constants.values()),
        )
        self.model = helper.make_model(
            graph,
            producer_name="bertnli",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        facts = {"model": config.to_dict(), "labels": None if labels is None else list(labels)}
        if encoding is not None:
            facts["encoding"] = encoding.to_dict()
        helper.set_model_props(self.model, {k: json.dumps(v) for k, v in facts.items()})

    def _build(self, classifies: bool, outputs: Sequence[str]) -> None:
        X = self._embedded()
        mask = self.node("Cast", "attention_mask", to=self.onnx.TensorProto.FLOAT)
        hidden = self.node("Mul", self.node("Sub", self.number(1), mask), self.number(-1e30))
        bias = self.node("Unsqueeze", hidden, self.integers(1, 2))  # (B, 1, 1, T)
        for i in range(self.config.num_blks):
            last = classifies and i == self.config.num_blks - 1
            X = self._block(f"encoder.blks.{i}", X, bias, last)
        if not classifies:
            self.node("Identity", X, output=outputs[0])
        first = self.node("Gather", X, self.constant("first", np.array(0, np.int64)), axis=1)
        pooled = self.dense("hidden", first)
        if not classifies:
            self.node("Tanh", pooled, output=outputs[1])
        else:
            self.dense("output", self.node("Tanh", pooled), output=outputs[0])

    def _embedded(self) -> str:
        tables = {
            name: self.constant(f"encoder.{name}.weight", self.arrays[f"encoder.{name}.weight"])
            for name in ("token_embedding", "segment_embedding")
        }
        positions = self.constant("encoder.pos_embedding", self.arrays["encoder.pos_embedding"][0])
        width = self.node("Shape", "input_ids", start=1, end=2)
        places = self.node("Slice", positions, self.integers(0), width, self.integers(0))
        X = self.node(
            "Add",
            self.node("Gather", tables["token_embedding"], "input_ids"),
            self.node("Gather", tables["segment_embedding"], "token_type_ids"),
        )
        X = self.node("Add", X, places)
        return self.norm("encoder.ln", X) if self.config.embedding_norm else X

    def _block(self, name: str, X: str, bias: str, firsts_only: bool) -> str:
        config = self.config
        heads = self.integers(0, 0, config.num_heads, config.num_hiddens // config.num_heads)
        asking = X
        if firsts_only:
            asking = self.node("Slice", X, self.integers(0), self.integers(1), self.integers(1))

        def split(layer: str, rows: str, order: list[int]) -> str:
            Y = self.dense(f"{name}.attention.{layer}", rows)
            return self.node("Transpose", self.node("Reshape", Y, heads), perm=order)

        queries = split("W_q", asking, [0, 2, 1, 3])
        scores = self.node("MatMul", queries, split("W_k", X, [0, 2, 3, 1]))  # (B, h, Q, T)
        scale = math.sqrt(config.num_hiddens // config.num_heads)
        scores = self.node("Add", self.node("Div", scores, self.number(scale)), bias)
        weights = self.node("Softmax", scores, axis=-1)
        found = self.node("MatMul", weights, split("W_v", X, [0, 2, 1, 3]))
        found = self.node("Transpose", found, perm=[0, 2, 1, 3])
        joined = self.node("Reshape", found, self.integers(0, 0, config.num_hiddens))
        Y = self.dense(f"{name}.attention.W_o", joined)
        Y = self.norm(f"{name}.addnorm1.ln", self.node("Add", Y, asking))
        inner = self._activated(self.dense(f"{name}.ffn.dense1", Y))
        Z = self.dense(f"{name}.ffn.dense2", inner)
        return self.norm(f"{name}.addnorm2.ln", self.node("Add", Z, Y))

    def _activated(self, X: str) -> str:
        if self.config.activation == "relu":
            return self.node("Relu", X)
        if self.config.activation == "gelu":
            inner = self.node("Erf", self.node("Div", X, self.number(math.sqrt(2))))
        else:
            cube = self.node("Mul", self.node("Mul", X, X), X)
            sum_ = self.node("Add", X, self.node("Mul", cube, self.number(0.044715)))
            inner = self.node("Tanh", self.node("Mul", sum_, self.number(math.sqrt(2 / math.pi))))
        grown = self.node("Mul", X, self.node("Add", inner, self.number(1)))
        return self.node("Mul", grown, self.number(0.5))

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(
            self.onnx.helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes)
        )
        return output

    def dense(self, name: str, X: str, output: str = "") -> str:
        # As MatMul has it: (in, out).
        weight = self.constant(f"{name}.weight", self.arrays[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.arrays[f"{name}.bias"])
        return self.node("Add", self.node("MatMul", X, weight), bias, output=output)

    def norm(self, name: str, X: str) -> str:
        scale, shift = (
            self.constant(f"{name}.{leaf}", self.arrays[f"{name}.{leaf}"])
            for leaf in ("weight", "bias")
        )
        return self.node(
            "LayerNormalization", X, scale, shift, axis=-1, epsilon=self.config.norm_eps
        )

    def number(self, value: float) -> str:
        return self.constant(f"number {value!r}", np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(f"integers {values}", np.array(values, np.int64))

    def constant(self, name: str, array: NDArray) -> str:
        if name not in self.constants:
            if array.dtype.kind == "f":
                array = array.astype(np.float32)
            tensor = self.onnx.numpy_helper.from_array(np.array(array, order="C"), name)
            self.constants[name] = tensor
        return name


@contextmanager
def _own_errors(what: str) -> Iterator[None]:
    """Turn the packages' errors, which have many classes, into ours."""
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
