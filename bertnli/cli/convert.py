"""Write a checkpoint in another format, and prove that nothing changed.

The source may be of any format that `bertnli info` shows; classifiers keep the names of their
classes. The target is a folder in every format: it holds the parameters, the sizes and class names,
and the vocabulary. Every tensor of what was written is read back and compared by its hash, before
the target appears; where a framework is installed, logits are compared as well.

examples:
  bertnli convert bert.mini mini.torch --to torch
  bertnli convert runs/mine exported --to bertnli --dtype float16
  bertnli convert some-bert exported --to huggingface
      of a BERT that came from a Hugging Face folder, or from GluonNLP
  bertnli convert bert.small.zip bert-small-torch --to torch --num-heads 4
  bertnli convert some-bert mine --to bertnli --labels contradiction,entailment,neutral
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends import available_backends, get_backend
from bertnli.bert.labels import LABELS
from bertnli.cli import options
from bertnli.data.batches import Batch
from bertnli.formats import huggingface
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.convert import DTYPES, FORMATS, convert, digests

#: Pairs that logits are compared on, and their longest.
NUM_PAIRS, MAX_LEN = 8, 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", help="a checkpoint of any format")
    parser.add_argument("target", metavar="DST", help="a new folder")
    parser.add_argument("--to", required=True, choices=sorted(FORMATS), help="the format")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="round the tensors to it: float16 takes half the room (default: as they are)",
    )
    options.add_checkpoint_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and print the proof."""
    given, found = convert(
        args.source,
        args.target,
        args.to,
        labels=args.labels,
        num_heads=args.num_heads,
        dtype=args.dtype,
    )
    hashes = digests(found.arrays)
    whole = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
    rounded = "" if args.dtype is None else f", rounded to {args.dtype}"
    print(f"{args.target}: {args.to}, {len(hashes)} tensors, each with its source's hash{rounded}")
    print(f"all tensors together: sha256 {whole}")
    if given.started:
        heads = sorted({name.partition(".")[0] for name in given.started})
        print(f"not in the source, and so with start values: {', '.join(heads)}")
    if found.labels is not None:
        print(f"classes: {', '.join(found.labels)}")
    if found.encoding is not None:
        how = found.encoding
        print(f"pairs are cut at {how.max_len} tokens ({how.truncation})")
        if args.to == "huggingface" and how.truncation != huggingface.OWN_TRUNCATION:
            print(
                f"note: transformers cuts longer pairs by a rule of its own, "
                f"{huggingface.OWN_TRUNCATION}, and so may give them other answers"
            )
    names = available_backends()
    if not names:
        print(f"logits were not compared: no framework is installed{given.reservation}")
    for name in names[:1]:
        apart = np.abs(_outputs(name, given) - _outputs(name, found)).max()
        print(
            f"logits of {NUM_PAIRS} random pairs on {name}{given.reservation}: "
            f"max abs difference {apart:g}"
        )
    files = sorted(path.name for path in Path(args.target).iterdir())
    print(f"wrote the folder {args.target}: {', '.join(files)}")
    return 0


def _outputs(backend: str, checkpoint: Checkpoint) -> NDArray[np.float32]:
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
