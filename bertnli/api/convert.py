"""A checkpoint in another format, and the proof that nothing changed, in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends import available_backends, get_backend
from bertnli.bert.labels import LABELS
from bertnli.data.batches import Batch
from bertnli.formats import convert as formats
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.huggingface import OWN_TRUNCATION

#: Pairs whose logits are compared, and their longest.
NUM_PAIRS, MAX_LEN = 8, 24


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint. As text it is the proof.

    Args:
        target: the new folder.
        to: its format.
        dtype: what the tensors were rounded to; None for nothing.
        before, after: the source, and the target as it was read back.
        difference: backend to the largest absolute difference of a logit, on one backend.
    """

    target: str | Path
    to: str
    dtype: str | None
    before: Checkpoint
    after: Checkpoint
    difference: dict[str, float]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        hashes = formats.digests(self.after.arrays)
        digest = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
        rounded = "" if self.dtype is None else f", rounded to {self.dtype}"
        yield (
            f"{self.target}: {self.to}, {len(hashes)} tensors, each with its source's hash{rounded}"
        )
        yield f"all tensors together: sha256 {digest}"
        if self.before.started:
            heads = sorted({name.partition(".")[0] for name in self.before.started})
            yield f"not in the source, and so with start values: {', '.join(heads)}"
        if self.after.labels is not None:
            yield f"classes: {', '.join(self.after.labels)}"
        encoding = self.after.encoding
        if encoding is not None:
            yield f"pairs are cut at {encoding.max_len} tokens ({encoding.truncation})"
            if self.to == "huggingface" and encoding.truncation != OWN_TRUNCATION:
                yield (
                    f"note: transformers cuts longer pairs by a rule of its own, {OWN_TRUNCATION}, "
                    "and so may give them other answers"
                )
        reservation = self.before.reservation
        if not self.difference:
            yield f"logits were not compared: no framework is installed{reservation}"
        for name, value in self.difference.items():
            yield (
                f"logits of {NUM_PAIRS} random pairs on {name}{reservation}: "
                f"max abs difference {value:g}"
            )
        files = sorted(path.name for path in Path(self.target).iterdir())
        yield f"wrote the folder {self.target}: {', '.join(files)}"


def convert(source: str | Path, target: str | Path, to: str, **options: Any) -> Converted:
    """Write a checkpoint in another format, and compare both; see `bertnli.formats.convert`."""
    before, after = formats.convert(source, target, to, **options)
    difference = {
        name: float(np.abs(_logits(name, before) - _logits(name, after)).max())
        for name in available_backends()[:1]
    }
    return Converted(target, to, options.get("dtype"), before, after, difference)


def _logits(backend: str, checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Return the logits of some pairs; of a pretrained model, with an output layer as it starts."""
    nli = get_backend(backend)
    bert: Any = nli.BERTModel(**checkpoint.config.to_dict(), arrays=checkpoint.arrays)
    net: Any = nli.BERTClassifier(bert, checkpoint.labels or LABELS)
    if checkpoint.labels is not None:
        net.load_arrays(checkpoint.arrays, checkpoint.source)
    rng = np.random.default_rng(0)
    width = min(MAX_LEN, checkpoint.config.max_len)
    ids = rng.integers(0, checkpoint.config.vocab_size, (NUM_PAIRS, width), dtype=np.int32)
    lens = rng.integers(1, width + 1, NUM_PAIRS, dtype=np.int32)
    segments = (np.arange(width) >= lens[:, None] // 2).astype(np.int32)
    return net.logits(Batch(ids, segments, lens, np.zeros(NUM_PAIRS, np.int32)))
