"""A checkpoint as an ONNX graph, proved and perhaps scored, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.progress import LogLines
from bertnli.api.runs import encoding_of
from bertnli.api.sets import describe, describe_encoding, read_ids
from bertnli.data.batches import sorted_batches
from bertnli.data.dataset import PairDataset
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.evaluation.predictions import metrics_of
from bertnli.formats import onnx
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.folder import check_new, new_files, new_folder
from bertnli.formats.load import load_checkpoint

#: An int8 graph that is so far from its source, by the largest output, is worth a warning.
FAR = 0.2


@dataclass(frozen=True)
class Exported:
    """What was written; as text, the proof.

    Args:
        target: the folder, or the file.
        graphs: the files of graphs.
        differences: of each, how far its outputs are from the float64 referee's, by the largest.
        accuracies: of each, on the pairs that were given; none without pairs.
        checkpoint: what they were made of.
        checked: lines on the pairs.
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
        checkpoint, target = self.checkpoint, self.target
        yield (
            f"{target}: opset {onnx.OPSET}, inputs {', '.join(onnx.INPUTS)}, any batch, up to "
            f"{checkpoint.config.max_len} tokens"
        )
        if checkpoint.labels is not None:
            yield f"classes: {', '.join(checkpoint.labels)}"
        else:
            yield "outputs: last_hidden_state and pooler_output, for there are no classes"
        if checkpoint.encoding is not None:
            how = checkpoint.encoding
            yield f"pairs are cut at {how.max_len} tokens ({how.truncation})"
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

    Raises:
        BERTNLIError: of a checkpoint, as `bertnli.load`; of a source, as `bertnli.read`; a target
            that is there already; or a graph that computes something else.
    """
    if check is None and (split is not None or reading):
        raise ConfigError("a split, and how a table is read, are of --check SOURCE")
    target = Path(target)
    is_file = target.suffix.lower() == ".onnx"
    graphs = [target / onnx.MODEL, target / onnx.INT8]
    if is_file:
        graphs = [target, target.with_suffix(".int8.onnx")]
    graphs = graphs[: 1 + int8]
    if is_file:
        check_new(*graphs, instead="another name")
    else:
        check_new(target)
    checkpoint = load_checkpoint(source, labels, num_heads)
    if checkpoint.encoding is not None:
        encoding = encoding_of(checkpoint.config, checkpoint.encoding, max_len, truncation)
        checkpoint = replace(checkpoint, encoding=encoding)
    dataset = None if check is None else _dataset(checkpoint, check, split, reading)
    files = [graph.name for graph in graphs]
    with new_files(graphs) if is_file else new_folder(target) as folder:
        folder.mkdir()
        onnx.write_onnx(folder / files[0], checkpoint)
        if not is_file:
            checkpoint.vocab.save(folder / checkpoint.vocab.FILE)
        if int8:
            onnx.quantize(folder / files[0], folder / files[1])
        apart = [onnx.largest_difference(folder / name, checkpoint) for name in files]
        if not np.isfinite(apart).all():
            raise CheckpointError(f"{source} has no int8 graph that computes numbers")
    scores, checked = [], []
    if dataset is not None:
        checked = [describe(dataset), describe_encoding(dataset)]
        for graph in graphs:
            logits = _logits(onnx.OnnxModel(graph), dataset, batch_size)
            scores.append(metrics_of(logits, checkpoint.labels or (), dataset).accuracy)
    found = tuple(graphs), tuple(apart), tuple(scores)
    return Exported(target, *found, replace(checkpoint, source=str(source)), tuple(checked))


def _dataset(
    checkpoint: Checkpoint, check: Any, split: str | None, reading: dict[str, Any]
) -> PairDataset:
    how, labels = checkpoint.encoding, checkpoint.labels
    if labels is None or how is None:
        raise ConfigError(
            f"{checkpoint.source} is a pretrained model, with no classes to score; leave --check "
            "out"
        )
    found = read_ids(check, split, checkpoint.vocab, how, **{"labels": labels, **reading})
    if not len(found):
        raise DataError(f"{found.source} has no pair to score")
    return found


def _logits(model: onnx.OnnxModel, dataset: PairDataset, batch_size: int) -> NDArray[np.float32]:
    found: list[NDArray] = [np.zeros(0)] * len(dataset)
    lines, done = LogLines(dataset.source or "the set", total=len(dataset)), 0
    for indices, batch in sorted_batches(dataset, batch_size):
        for index, row in zip(indices, model.outputs(batch)[0], strict=True):
            found[index] = row
        done += len(batch)
        lines.update(done)
    return np.stack(found)
