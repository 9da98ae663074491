"""Write a checkpoint as an ONNX graph, for onnxruntime and whatever else reads such graphs.

DST is a new folder, which gets model.onnx and the vocabulary. A DST that ends in .onnx is a file,
which is the graph alone. Class names and sizes are in the graph's metadata (labels, model), as is
how pairs were cut in training (encoding). Batch and length are free, up to the model's positions.
Before the command says that it worked, onnxruntime has computed what the tensors say. With --int8
there is model.int8.onnx beside it (mine.int8.onnx beside mine.onnx), a third of the size; give
--data or --file to see what that costs in accuracy.

examples:
  bertnli export runs/mine exported --format onnx
  bertnli export runs/mine mine.onnx --format onnx
  bertnli export runs/mine exported --format onnx --int8 --data sample
  bertnli export some-bert exported --format onnx --labels contradiction,entailment,neutral
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli.checkpoints import onnx
from bertnli.checkpoints.folder import check_new, new_files, new_folder
from bertnli.checkpoints.opening import Checkpoint, open_checkpoint
from bertnli.cli import corpora, options
from bertnli.data.batches import sorted_batches
from bertnli.data.dataset import PairDataset
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.labels import label_permutation
from bertnli.progress import LogLines
from bertnli.training.metrics import Metrics

#: An int8 graph that is so far from its source, by the largest output, is worth a warning.
FAR = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", help="a checkpoint of any format")
    parser.add_argument("target", metavar="DST", help="a new folder, or a new file NAME.onnx")
    parser.add_argument("--format", required=True, choices=["onnx"], help="the format")
    parser.add_argument("--int8", action="store_true", help="write the graph with int8 weights too")
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 64)
    corpora.add_labelled_source(parser, required=False, format="--table-format")


def run(args: argparse.Namespace) -> int:
    """Export, and print the proof."""
    target = Path(args.target)
    is_file = target.suffix.lower() == ".onnx"
    graphs = [target / onnx.MODEL, target / onnx.INT8]
    if is_file:
        graphs = [target, target.with_suffix(".int8.onnx")]
    graphs = graphs[: 1 + args.int8]
    if is_file:
        check_new(*graphs, instead="another name")
    else:
        check_new(target)
    checkpoint = open_checkpoint(args.source, args.labels, args.num_heads)
    if checkpoint.encoding is not None:
        encoding = options.encoding_of(args, checkpoint.config, checkpoint.encoding)
        checkpoint = replace(checkpoint, encoding=encoding)
    dataset = ids = None
    if args.data is None and args.split is not None:
        raise ConfigError("--split is of --data, which names a corpus")
    if args.data is not None or args.file is not None:
        if checkpoint.labels is None or checkpoint.encoding is None:
            raise ConfigError(
                f"{args.source} is a pretrained model, with no classes to score; leave --data and "
                "--file out"
            )
        dataset = corpora.encode_labelled(
            args, checkpoint.labels, checkpoint.encoding, checkpoint.vocab
        )
        if not len(dataset):
            raise DataError(f"{dataset.source} has no pair to score")
        ids = label_permutation(checkpoint.labels, dataset.label_names)
    files = [graph.name for graph in graphs]
    with new_files(graphs) if is_file else new_folder(target) as folder:
        folder.mkdir()
        onnx.write_onnx(folder / files[0], checkpoint)
        if not is_file:
            checkpoint.vocab.save(folder / checkpoint.vocab.FILE)
        if args.int8:
            onnx.quantize(folder / files[0], folder / files[1])
        apart = [onnx.largest_difference(folder / name, checkpoint) for name in files]
        if not np.isfinite(apart).all():
            raise CheckpointError(f"{args.source} has no int8 graph that computes numbers")
    print(
        f"{target}: opset {onnx.OPSET}, inputs {', '.join(onnx.INPUTS)}, any batch, up to "
        f"{checkpoint.config.max_len} tokens"
    )
    if checkpoint.labels is not None:
        print(f"classes: {', '.join(checkpoint.labels)}")
    else:
        print("outputs: last_hidden_state and pooler_output, for there are no classes")
    if checkpoint.encoding is not None:
        how = checkpoint.encoding
        print(f"pairs are cut at {how.max_len} tokens ({how.truncation})")
    for name, graph, value in zip(files, graphs, apart, strict=True):
        size = graph.stat().st_size / 1e6
        print(
            f"{name}: {size:.1f} MB, {value:.1e} of the largest output from the float64 referee"
            f"{checkpoint.reservation}"
        )
    if apart[-1] > FAR:
        print("warning: int8 is far off; see with --data or --file what that costs in accuracy")
    if dataset is not None and ids is not None:
        print(corpora.describe(dataset))
        print(corpora.describe_encoding(dataset))
        scores = []
        for graph in graphs:
            model = onnx.OnnxModel(graph)
            scores.append(_accuracy(model, checkpoint, dataset, ids, args.batch_size))
        for name, score in zip(files, scores, strict=True):
            change = "" if score is scores[0] else f", {score - scores[0]:+.4f}"
            print(f"{name}: accuracy {score:.4f}{change}")
    if is_file:
        print(
            f"wrote {' and '.join(map(str, graphs))}: the graph alone. Its inputs need the "
            f"vocabulary of {args.source} too; a DST without .onnx is a folder that gets both"
        )
    else:
        print(f"wrote the folder {target}: {', '.join(sorted(p.name for p in target.iterdir()))}")
    return 0


def _accuracy(
    model: onnx.OnnxModel,
    checkpoint: Checkpoint,
    dataset: PairDataset,
    ids: NDArray[np.int64],
    batch_size: int,
) -> float:
    """Return the score on a set whose classes have these ids in the model."""
    logits, truth, done = [], [], 0
    lines = LogLines(dataset.source or "the set", total=len(dataset))
    for _, batch in sorted_batches(dataset, batch_size):
        logits.append(model.outputs(batch)[0])
        truth.append(ids[batch.labels])
        done += len(batch)
        lines.update(done)
    labels = checkpoint.labels or ()
    return Metrics.from_logits(labels, np.concatenate(logits), np.concatenate(truth)).accuracy
