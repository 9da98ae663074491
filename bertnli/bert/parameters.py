"""The tensors of a BERT: their canonical names, their shapes, and their start values.

Every checkpoint format maps its own names to these, so that both backends load all formats.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.errors import CheckpointError

#: Name to shape.
Shapes = dict[str, tuple[int, ...]]

#: Prefixes of the tensors that only next-sentence prediction, a pretraining task, trains.
SENTENCE_HEADS = ("hidden.", "nsp.")
#: The name of the token embedding's table, (vocab_size, embedding_size).
TOKEN_TABLE = "encoder.token_embedding.weight"
#: The names of the segment embedding's table, and of the biases of relative positions.
SEGMENT_TABLE = "encoder.segment_embedding.weight"
RELATIVE_TABLE = "encoder.relative_embedding.weight"
#: The names of the table of position embeddings, and of that of vectors of distances.
POSITION_TABLE = "encoder.pos_embedding"
DISTANCE_TABLE = "encoder.distances.embedding.weight"
#: The name that `layer_of` gives to all embeddings together.
EMBEDDING = "encoder.embedding"
#: Advice about wrong shapes if the user gave the sizes.
OTHER_SIZES = (
    "Give the sizes that the checkpoint was made with, or leave them out to take them from the file"
)


def encoder_shapes(config: BERTConfig) -> Shapes:
    """Return the shapes of the tensors that the pretraining model and the classifier share."""
    hiddens, ffn, width = config.num_hiddens, config.ffn_num_hiddens, config.embedding_width
    shapes: Shapes = {}
    if not config.position_buckets:
        shapes[POSITION_TABLE] = (1, config.first_position + config.max_len, width)
    shapes[TOKEN_TABLE] = (config.vocab_size, width)
    if config.num_segments:
        shapes[SEGMENT_TABLE] = (config.num_segments, width)
    if config.relative_buckets:
        shapes[RELATIVE_TABLE] = (config.relative_buckets, config.num_heads)
    if config.position_buckets:
        shapes[DISTANCE_TABLE] = (2 * config.position_buckets, hiddens)
        shapes |= _layer("encoder.distances.ln", hiddens)
    if config.embedding_norm:
        shapes |= _layer("encoder.ln", width)
    if width != hiddens:
        shapes |= _layer("encoder.projection", hiddens, width)
    for block in (f"encoder.blks.{i}" for i in range(config.num_blks)):
        for projection in ("W_q", "W_k", "W_v", "W_o"):
            shapes |= _layer(f"{block}.attention.{projection}", hiddens, hiddens)
        shapes |= _layer(f"{block}.addnorm1.ln", hiddens)
        shapes |= _layer(f"{block}.ffn.dense1", ffn, hiddens)
        shapes |= _layer(f"{block}.ffn.dense2", hiddens, ffn)
        shapes |= _layer(f"{block}.addnorm2.ln", hiddens)
    return shapes | _layer("hidden", hiddens, hiddens)


def bert_shapes(config: BERTConfig) -> Shapes:
    """Return the shapes of a BERTModel's tensors: encoder, pooler, MLM head and NSP head."""
    hiddens = config.num_hiddens
    return (
        encoder_shapes(config)
        | _layer("mlm.dense", hiddens, hiddens)
        | _layer("mlm.ln", hiddens)
        | _layer("mlm.decoder", config.vocab_size, hiddens)
        | _layer("nsp.output", 2, hiddens)
    )


def classifier_shapes(config: BERTConfig, num_labels: int) -> Shapes:
    """Return the shapes of a BERTClassifier's tensors: encoder, pooler and output layer."""
    return encoder_shapes(config) | _layer("output", num_labels, config.num_hiddens)


def _layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def layer_names(config: BERTConfig) -> list[str]:
    """Return the names of a classifier's layers: embeddings, blocks, pooler, output layer."""
    return [EMBEDDING, *(f"encoder.blks.{i}" for i in range(config.num_blks)), "hidden", "output"]


def layer_of(name: str) -> str:
    """Return the layer, one of `layer_names`, that a classifier's tensor belongs to."""
    match = re.match(r"encoder\.blks\.\d+|hidden|output", name)
    return EMBEDDING if match is None else match[0]


def initial_arrays(shapes: Shapes, seed: int, content: str = "") -> dict[str, NDArray[np.float32]]:
    """Draw the start values of tensors, which are the same on every backend.

    Embeddings are N(0, 0.02) as in Devlin et al. (2019), appendix A; weights of dense layers
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default; biases 0; LayerNorm scales 1.

    Args:
        shapes: the tensors' shapes by name. A tensor's values depend on its name.
        seed: seed of the random numbers.
        content: hexadecimal digits that are a part of the seed, too.
    """
    words = [int(content[i : i + 8], 16) for i in range(0, len(content), 8)]
    arrays = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), *words])
        if "embedding" in name:
            arrays[name] = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        elif name.endswith((".bias", "ln.weight")):
            arrays[name] = np.full(shape, name.endswith("ln.weight"), np.float32)
        else:
            limit = 1 / np.sqrt(shape[-1])
            arrays[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return arrays


def infer_config(
    arrays: Mapping[str, NDArray], num_heads: int, dropout: float, source: str
) -> BERTConfig:
    """Infer the sizes of a BERT from the shapes of its tensors, given by canonical name.

    No shape shows ``num_heads`` and ``dropout``, nor where positions start: ``max_len`` is the
    number of rows, or the default without position embeddings. Messages name the tensors' file,
    ``source``.
    """
    blocks = {m[1] for m in (re.match(r"encoder\.blks\.(\d+)\.", name) for name in arrays) if m}
    try:
        if blocks != {*map(str, range(len(blocks)))}:
            raise ValueError(f"its {len(blocks)} blocks are not numbered from 0")
        vocab_size, embedding_size = map(int, arrays[TOKEN_TABLE].shape)
        ffn_num_hiddens, num_hiddens = map(int, arrays["encoder.blks.0.ffn.dense1.weight"].shape)
        num_segments, relative_buckets, num_distances = (
            int(arrays[table].shape[0]) if table in arrays else 0
            for table in (SEGMENT_TABLE, RELATIVE_TABLE, DISTANCE_TABLE)
        )
        max_len = BERTConfig.max_len if num_distances else int(arrays[POSITION_TABLE].shape[1])
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{source}: its tensors are not those of a BERT ({type(error).__name__}: {error}); "
            f"it holds {some(sorted(arrays))}"
        ) from error
    sizes = (vocab_size, num_hiddens, ffn_num_hiddens, num_heads, len(blocks), dropout, max_len)
    return BERTConfig(
        *sizes,
        embedding_size=embedding_size,
        num_segments=num_segments,
        pair_segments=num_segments != 1,
        relative_buckets=relative_buckets,
        position_buckets=num_distances // 2,
    )


def check_shapes(
    arrays: Mapping[str, NDArray], shapes: Shapes, source: str, advice: str = OTHER_SIZES
) -> None:
    """Raise CheckpointError unless the tensors have exactly these names and shapes, and are finite.

    Args:
        arrays: tensors by name, which must be floating-point numbers.
        shapes: the expected shapes by name.
        source: the file's path, for messages.
        advice: the end of the message about wrong names or shapes.
    """
    numbers = [f"{name} ({a.dtype})" for name, a in arrays.items() if a.dtype.kind != "f"]
    if numbers:
        raise CheckpointError(
            f"{source}: weights are floating-point numbers, and these are not: {some(numbers)}"
        )
    problems = {
        "shapes differ": [
            f"{name} is {tuple(arrays[name].shape)} in the file, {shape} in the model"
            for name, shape in shapes.items()
            if name in arrays and tuple(arrays[name].shape) != shape
        ],
        "tensors missing": [name for name in shapes if name not in arrays],
        "tensors not in the model": [name for name in arrays if name not in shapes],
    }
    text = "; ".join(f"{what}: {some(names)}" for what, names in problems.items() if names)
    if text:
        raise CheckpointError(f"{source}: {text}. {advice}")
    check_finite(arrays, source)


def check_finite(arrays: Mapping[str, NDArray], source: str) -> None:
    """Raise CheckpointError for values that are NaN, infinite, or too large for float32."""
    wrong = []
    with np.errstate(over="ignore"):
        for name, array in arrays.items():
            computed = array if array.itemsize <= 4 else array.astype(np.float32)
            count = array.size - np.count_nonzero(np.isfinite(computed))
            if count:
                wrong.append(f"{name} ({count} of {array.size})")
    if wrong:
        raise CheckpointError(
            f"{source}: values are NaN, infinite or beyond float32: {some(wrong)}. The run that "
            "wrote them has diverged, or the file is damaged; take an earlier checkpoint, or copy "
            "the file anew"
        )


def some(items: Sequence[object], limit: int = 5) -> str:
    """Join the first items with commas; if there are more, say how many."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(map(str, items[:limit])) + more
