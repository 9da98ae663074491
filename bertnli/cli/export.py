"""Write a checkpoint as an ONNX graph, for onnxruntime and whatever else reads such graphs.

DST is a new folder, which gets model.onnx and the vocabulary. A DST that ends in .onnx is a file,
which is the graph alone. Class names and sizes are in the graph's metadata (labels, model), as is
how pairs were cut in training (encoding). Batch and length are free, up to the model's positions.
Before the command says that it worked, onnxruntime has computed what the tensors say. With --int8
there is model.int8.onnx beside it (mine.int8.onnx beside mine.onnx), a third of the size; give
--check to see what that costs in accuracy.

examples:
  bertnli export runs/mine exported --format onnx
  bertnli export runs/mine mine.onnx --format onnx
  bertnli export runs/mine exported --format onnx --int8 --check sample
  bertnli export some-bert exported --format onnx --labels contradiction,entailment,neutral
"""

from __future__ import annotations

import argparse

from bertnli.api.export import export
from bertnli.cli import corpora, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", help="a checkpoint of any format")
    parser.add_argument("target", metavar="DST", help="a new folder, or a new file NAME.onnx")
    parser.add_argument("--format", required=True, choices=["onnx"], help="the format")
    parser.add_argument("--int8", action="store_true", help="write the graph with int8 weights too")
    parser.add_argument(
        "--check", metavar=corpora.SOURCE, help=f"score the graphs on it: {corpora.SOURCE_HELP}"
    )
    corpora.add_split_option(parser)
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 64)
    corpora.add_reading_options(parser, format="--table-format")


def run(args: argparse.Namespace) -> int:
    """Export, and print the proof."""
    if args.check is not None:
        corpora.say_test([args.check], args.split)
    found = export(
        args.source,
        args.target,
        int8=args.int8,
        check=args.check,
        split=args.split,
        labels=args.labels,
        num_heads=args.num_heads,
        batch_size=args.batch_size,
        **options.cut_of(args),
        **corpora.reading_of(args),
    )
    print(found)
    return 0
