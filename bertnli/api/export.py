"""A checkpoint as an ONNX graph, proved and perhaps scored, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.progress import LogLines
from bertnli.api.sets import describe, describe_encoding, encoding_of, read_ids
from bertnli.data.batches import sorted_batches
from bertnli.data.dataset import PairDataset
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.evaluation.predictions import metrics_of
from bertnli.formats import onnx
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.folder import check_new, new_folder
from bertnli.formats.load import load_checkpoint

#: An int8 graph that is so far from its source, by the largest output, is worth a warning.
FAR = 0.2


@dataclass(frozen=True)
class Exported:
    """An exported graph. As text it is the proof.

    Args:
        target: the folder, or the file.
        graphs: the files of graphs.
        differences: of each, how far its outputs are from the float64 referee's, by the largest.
        accuracies: of each, on the pairs that were given; none without pairs.
        checkpoint: the source.
        checked: lines on the pairs.

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
        return "\n".join(self._lines(self.checkpoint, self.target))

    def _lines(self, checkpoint: Checkpoint, target: Path) -> Iterator[str]:
        yield (
            f"{target}: opset {onnx.OPSET}, inputs {', '.join(onnx.INPUTS)}, any batch, up to "
            f"{checkpoint.config.max_len} tokens"
        )
        if checkpoint.labels is not None:
            yield f"classes: {', '.join(checkpoint.labels)}"
        else:
            yield "outputs: last_hidden_state and pooler_output, for there are no classes"
        if checkpoint.encoding is not None:
            encoding = checkpoint.encoding
            yield f"pairs are cut at {encoding.max_len} tokens ({encoding.truncation})"
        for graph, value in zip(self.graphs, self.differences, strict=True):
            yield (
                f"{graph.name}: {graph.stat().st_size / 1e6:.1f} MB, {value:.1e} of the largest "
                f"output from the float64 referee{checkpoint.reservation}"
            )
        if self.differences[-1] > FAR:
            yield "warning: int8 is far off; see with --check what that costs in accuracy"
        yield from self.checked
        for graph, score in zip(self.graphs, self.accuracies, strict=False):
            first = self.accuracies[0]
            change = "" if graph is self.graphs[0] else f", {score - first:+.4f}"
            yield f"{graph.name}: accuracy {score:.4f}{change}"
        if target in self.graphs:
            yield (
                f"wrote {' and '.join(map(str, self.graphs))}: the graph alone. Its inputs need "
                f"the vocabulary of {checkpoint.source} too; a DST without .onnx is a folder that "
                "gets both"
            )
        else:
            files = ", ".join(sorted(path.name for path in target.iterdir()))
            yield f"wrote the folder {target}: {files}"


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
    """Write a checkpoint as an ONNX graph, and compute with onnxruntime what its tensors say.

    Args:
        source: a checkpoint of any format.
        target: a new folder, or a new file whose name ends in ``.onnx``.
        int8: write the graph with int8 weights too.
        check: a source of labelled pairs to score the graphs on; see `bertnli.read`.
        split: of ``check``, if it has several; None for dev.
        labels, num_heads: of a checkpoint that does not tell them.
        max_len, truncation: how pairs are cut; None for the checkpoint's way.
        batch_size: pairs computed at a time.
        reading: as for `bertnli.read`; its ``labels`` are the checkpoint's.

    Returns:
        The graphs and the proof.

    Raises:
        BERTNLIError: of a checkpoint, as `bertnli.load`; of a source, as `bertnli.read`; a target
            that is there already; or a graph that computes something else.

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
    dataset = None if check is None else _dataset(checkpoint, check, split, reading)
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
    accuracies, lines = [], []
    if dataset is not None and checkpoint.labels is not None:
        lines = [describe(dataset), describe_encoding(dataset)]
        for graph in graphs:
            logits = _logits(onnx.OnnxModel(graph), dataset, len(checkpoint.labels), batch_size)
            accuracies.append(metrics_of(logits, checkpoint.labels, dataset).accuracy)
    return Exported(
        target=target,
        graphs=tuple(graphs),
        differences=tuple(differences),
        accuracies=tuple(accuracies),
        checkpoint=replace(checkpoint, source=str(source)),
        checked=tuple(lines),
    )


def _dataset(
    checkpoint: Checkpoint, check: Any, split: str | None, reading: dict[str, Any]
) -> PairDataset:
    encoding, labels = checkpoint.encoding, checkpoint.labels
    if labels is None or encoding is None:
        raise ConfigError(
            f"{checkpoint.source} is a pretrained model, with no classes to score; leave --check "
            "out"
        )
    dataset = read_ids(check, split, checkpoint.vocab, encoding, **{"labels": labels, **reading})
    if not len(dataset):
        raise DataError(f"{dataset.source} has no pair to score")
    return dataset


def _logits(
    model: onnx.OnnxModel, dataset: PairDataset, num_labels: int, batch_size: int
) -> NDArray[np.float32]:
    logits = np.zeros((len(dataset), num_labels), np.float32)
    lines, done = LogLines(dataset.source or "the set", total=len(dataset)), 0
    for indices, batch in sorted_batches(dataset, batch_size):
        logits[indices] = model.outputs(batch)[0]
        done += len(batch)
        lines.update(done)
    return logits
