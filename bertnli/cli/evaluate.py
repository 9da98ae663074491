"""Score a checkpoint on labelled pairs.

Prints accuracy, loss, each class's precision, recall and F1, and the confusion matrix. Classes are
matched by name, whatever their order; a warning says so where another order would score far better.

examples:
  bertnli evaluate runs/sample --data sample
  bertnli evaluate runs/small --data SNLI --split test --json
  bertnli evaluate runs/mine --file dev.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=neutral,2=contradiction
"""

from __future__ import annotations

import argparse
import json
import sys

from bertnli.cli import corpora, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder of a run or a checkpoint")
    corpora.add_labelled_source(parser, required=True)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 256)
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print the score."""
    backend = options.backend_of(args)
    devices = backend.as_devices(args.devices)
    net = backend.load(args.checkpoint, devices, args.labels, args.num_heads)
    max_len, vocab = options.max_len_of(args, net.config), net.required_vocab()
    dataset = corpora.encode_labelled(args, net.labels, max_len, vocab)
    print(corpora.describe(dataset), file=sys.stderr)
    trainer = backend.Trainer(net, devices=devices, precision=args.precision)
    options.say_precision(trainer.net.precision, trainer.precision_reason)
    metrics = trainer.evaluate(dataset, args.batch_size)
    better = metrics.better_permutation()
    if better is not None:
        renamed, accuracy = better
        order = ",".join(renamed.get(label, label) for label in net.labels)
        print(
            f"warning: the classes may be in another order than {','.join(net.labels)}: in the "
            f"order {order} the accuracy would be {accuracy:.4f}, not {metrics.accuracy:.4f}; if "
            "so, mend --label-map, --labels, or the names in the checkpoint's config.json",
            file=sys.stderr,
        )
    print(json.dumps(metrics.to_dict(), indent=2) if args.json else metrics)
    return 0
