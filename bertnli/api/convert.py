"""Write a checkpoint in another format or as an ONNX graph, and compare the results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.progress import LogLines
from bertnli.api.loading import describe, describe_encoding, encoding_of, read_ids
from bertnli.backends import available_backends, get_backend
from bertnli.bert.labels import LABELS
from bertnli.data.batches import Batch, sorted_batches
from bertnli.data.dataset import PairDataset
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.evaluation.predictions import metrics_of
from bertnli.formats import convert as formats
from bertnli.formats import onnx
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.folder import check_new, new_folder
from bertnli.formats.huggingface import OWN_TRUNCATION
from bertnli.formats.load import load_checkpoint

#: Number and largest length of the random pairs whose logits are compared.
NUM_PAIRS, MAX_LEN = 8, 24
#: Relative error of an int8 graph's outputs above which there is a warning.
LARGE_ERROR = 0.2


def convert(source: str | Path, target: str | Path, to: str, **options: Any) -> Iterator[str]:
    """Write a checkpoint in another format, and yield lines that compare both.

    The arguments are those of `bertnli.formats.convert.convert`.
    """
    before, after = formats.convert(source, target, to, **options)
    hashes = formats.digests(after.arrays)
    digest = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
    rounded = f", rounded to {options['dtype']}" if options.get("dtype") else ""
    yield f"{target}: {to}, {len(hashes)} tensors, each with its source's hash{rounded}"
    yield f"all tensors together: sha256 {digest}"
    if before.started:
        heads = sorted({name.partition(".")[0] for name in before.started})
        yield f"not in the source, and so with start values: {', '.join(heads)}"
    yield from _describe_classifier(after)
    if to == "huggingface" and after.encoding and after.encoding.truncation != OWN_TRUNCATION:
        rule = f"transformers cuts longer pairs by a rule of its own, {OWN_TRUNCATION}"
        yield f"note: {rule}, and so may give them other answers"
    backends = available_backends()[:1]
    if not backends:
        yield f"logits were not compared: no framework is installed{before.reservation}"
    for name in backends:
        difference = np.abs(_random_logits(name, before) - _random_logits(name, after)).max()
        pairs = f"logits of {NUM_PAIRS} random pairs on {name}{before.reservation}"
        yield f"{pairs}: max abs difference {difference:g}"
    yield _describe_folder(Path(target))


def _random_logits(backend: str, checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Compute the logits of random pairs; a pretrained model gets a new output layer."""
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


def _describe_classifier(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield lines on a checkpoint's classes and encoding, where it has them."""
    if checkpoint.labels is not None:
        yield f"classes: {', '.join(checkpoint.labels)}"
    if checkpoint.encoding is not None:
        how = checkpoint.encoding
        yield f"pairs are cut at {how.max_len} tokens ({how.truncation})"


def _describe_folder(folder: Path) -> str:
    return f"wrote the folder {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}"


@dataclass(frozen=True)
class Exported:
    """A checkpoint exported as ONNX graphs; ``str`` describes the comparison with the checkpoint.

    Args:
        target: the new folder or file.
        graphs: the file of each graph.
        differences: each graph's largest error against a float64 computation, relative to the
            largest output.
        accuracies: each graph's accuracy on ``check``; empty without it.
        checkpoint: the source.
        checked: lines about the pairs of ``check``.

    Examples:
        >>> exported = bertnli.export("bert.mini", "mini.onnx")
        >>> exported.target.name, max(exported.differences) < 1e-4
        ('mini.onnx', True)
    """

    target: Path
    graphs: tuple[Path, ...]
    differences: tuple[float, ...]
    accuracies: tuple[float, ...]
    checkpoint: Checkpoint
    checked: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        inputs = f"inputs {', '.join(onnx.INPUTS)}, any batch"
        positions = self.checkpoint.config.max_len
        yield f"{self.target}: opset {onnx.OPSET}, {inputs}, up to {positions} tokens"
        if self.checkpoint.labels is None:
            yield "outputs: last_hidden_state and pooler_output, for there are no classes"
        yield from _describe_classifier(self.checkpoint)
        for graph, value in zip(self.graphs, self.differences, strict=True):
            yield (
                f"{graph.name}: {graph.stat().st_size / 1e6:.1f} MB, {value:.1e} of the largest "
                f"output from the float64 referee{self.checkpoint.reservation}"
            )
        if self.differences[-1] > LARGE_ERROR:
            yield "warning: int8 is far off; see with --check what that costs in accuracy"
        yield from self.checked
        for graph, score in zip(self.graphs, self.accuracies, strict=False):
            change = "" if graph is self.graphs[0] else f", {score - self.accuracies[0]:+.4f}"
            yield f"{graph.name}: accuracy {score:.4f}{change}"
        if self.target in self.graphs:
            yield (
                f"wrote {' and '.join(map(str, self.graphs))}: the graph alone. Its inputs need "
                f"the vocabulary of {self.checkpoint.source} too; a DST without .onnx is a folder "
                "that gets both"
            )
        else:
            yield _describe_folder(self.target)


def export(
    source: str | Path,
    target: str | Path,
    *,
    int8: bool = False,
    check: Any = None,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    num_heads: int | None = None,
    max_len: int | None = None,
    truncation: str | None = None,
    batch_size: int = 64,
    **reading: Any,
) -> Exported:
    """Write a checkpoint as an ONNX graph, and compare its outputs with the tensors.

    Args:
        source: a checkpoint of any format.
        target: a new folder, or a new file whose name ends in ``.onnx``.
        int8: whether to write a second graph with int8 weights.
        check: a source of labelled pairs to score the graphs on; see `bertnli.read`.
        split: the split to read from a ``check`` with several; None for dev.
        labels, num_heads: facts that the checkpoint lacks; see `bertnli.load`.
        max_len, truncation: how pairs are cut to length; None for the checkpoint's own.
        batch_size: the number of pairs computed at a time.
        reading: further arguments of `bertnli.read`; ``labels`` is the checkpoint's.

    Raises:
        BERTNLIError: the checkpoint or the pairs cannot be read, the target exists, or a graph does
            not compute the same as the checkpoint.

    Examples:
        >>> bertnli.export("bert.mini", "graph.onnx").target.exists()
        True
    """
    if check is None and (split is not None or reading):
        raise ConfigError("a split, and how a table is read, are of --check SOURCE")
    target = Path(target)
    is_file = target.suffix.lower() == ".onnx"
    if is_file:
        graphs = [target, target.with_suffix(".int8.onnx")][: 1 + int8]
        check_new(*graphs, instead="another name")
    else:
        graphs = [target / onnx.MODEL, target / onnx.INT8][: 1 + int8]
        check_new(target)
    checkpoint = load_checkpoint(source, labels, num_heads)
    if checkpoint.encoding is not None:
        encoding = encoding_of(checkpoint.config, checkpoint.encoding, max_len, truncation)
        checkpoint = replace(checkpoint, encoding=encoding)
    dataset = None if check is None else _labelled_pairs(checkpoint, check, split, reading)
    with new_folder(*(graphs if is_file else [target]), as_files=is_file) as folder:
        folder.mkdir()
        written = [folder / graph.name for graph in graphs]
        onnx.write_onnx(written[0], checkpoint)
        if not is_file:
            checkpoint.vocab.save(folder / checkpoint.vocab.FILE)
        if int8:
            onnx.quantize(*written)
        differences = [onnx.largest_difference(graph, checkpoint) for graph in written]
        if not np.isfinite(differences).all():
            raise CheckpointError(f"{source} has no int8 graph that computes numbers")
    accuracies, checked = list[float](), list[str]()
    if dataset is not None:
        checked = [describe(dataset), describe_encoding(dataset)]
        accuracies = [_accuracy(graph, checkpoint, dataset, batch_size) for graph in graphs]
    checkpoint = replace(checkpoint, source=str(source))
    scores = tuple(differences), tuple(accuracies)
    return Exported(target, tuple(graphs), *scores, checkpoint, tuple(checked))


def _labelled_pairs(
    checkpoint: Checkpoint, check: Any, split: str | None, reading: dict[str, Any]
) -> PairDataset:
    """Read the pairs that the graphs of a checkpoint are scored on."""
    encoding, labels = checkpoint.encoding, checkpoint.labels
    if labels is None or encoding is None:
        model = f"{checkpoint.source} is a pretrained model, with no classes to score"
        raise ConfigError(f"{model}; leave --check out")
    dataset = read_ids(check, split, checkpoint.vocab, encoding, **{"labels": labels, **reading})
    if not len(dataset):
        raise DataError(f"{dataset.source} has no pair to score")
    return dataset


def _accuracy(graph: Path, checkpoint: Checkpoint, dataset: PairDataset, batch_size: int) -> float:
    """Score a graph on pairs with onnxruntime."""
    model, labels = onnx.OnnxModel(graph), checkpoint.labels or ()
    logits = np.zeros((len(dataset), len(labels)), np.float32)
    lines, done = LogLines(dataset.source or "the set", total=len(dataset)), 0
    for indices, batch in sorted_batches(dataset, batch_size):
        logits[indices] = model.outputs(batch)[0]
        done += len(batch)
        lines.update(done)
    return metrics_of(logits, labels, dataset).accuracy
