"""Print the class of sentence pairs: one line for each, in their order, with all probabilities.

Pairs come from the command line, from a file, or else from standard input: one pair per line, with
a tab between premise and hypothesis, or JSON objects. A table has these two columns only, or a
header that names them: sentence1 and sentence2, or premise and hypothesis, or as the options say.
Of SNLI's and MultiNLI's files the binary parses are read, and the sentences where these are empty.

examples:
  bertnli predict "A man is asleep." "A man is awake."
  bertnli predict --checkpoint runs/sample "A man is asleep." "A man is awake."
  bertnli predict --checkpoint runs/sample --file pairs.tsv --json > predictions.jsonl
  printf 'A man is asleep.\\tA man is awake.\\n' | bertnli predict --checkpoint runs/sample
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import numpy as np

from bertnli.backends.interface import Prediction
from bertnli.cli import corpora, options
from bertnli.cli.pair_lines import Pair, format_of, open_pairs, pairs_of
from bertnli.data.lines import BoundedLines
from bertnli.errors import BERTNLIError, ConfigError
from bertnli.progress import LogLines

#: Batches of a file's pairs that are sorted by length together.
BATCHES_AT_ONCE = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_checkpoint_option(parser)
    parser.add_argument(
        "pair", nargs="*", metavar="SENTENCE", help="a premise and a hypothesis, as people write"
    )
    parser.add_argument(
        "--file", metavar="FILE", help="a TSV, CSV or JSONL file, perhaps gzipped (.gz)"
    )
    corpora.add_column_options(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON objects with premise, hypothesis, label, probabilities, unknown_share (of "
        "the tokens, those that the model does not know) and is_cut (longer than --max-len)",
    )
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 64)
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, and print each pair's class."""
    if len(args.pair) not in (0, 2):
        raise ConfigError(
            f"{len(args.pair)} sentences were given; give a premise and a hypothesis, each in "
            "quotation marks"
        )
    if args.pair and args.file is not None:
        raise ConfigError("give either two sentences or --file, not both")
    with ExitStack() as stack:
        pairs, at_once = _pairs(args, stack)
        backend = options.backend_of(args)
        devices = backend.as_devices(args.devices)
        net = backend.load(args.checkpoint, devices, args.labels, args.num_heads)
        net.precision, reason = backend.as_precision(args.precision, devices[0])
        options.say_precision(net.precision, reason)
        net.encoding = options.encoding_of(args, net.config, net.encoding)
        remarks = _Remarks(net.encoding.max_len)
        lines, done = LogLines(args.file or "standard input"), 0
        try:
            for chunk in _chunks(pairs, at_once):
                predictions = net.predict(chunk, batch_size=args.batch_size)
                for pair, prediction in zip(chunk, predictions, strict=True):
                    print(_as_json(pair, prediction) if args.json else _as_text(prediction))
                sys.stdout.flush()
                remarks.add(predictions)
                if at_once == 1:
                    remarks.say()
                done += len(chunk)
                if not sys.stdout.isatty():  # where the answers themselves show it
                    lines.update(done)
            if not done:
                print(f"{args.file or 'standard input'} has no pairs", file=sys.stderr)
        finally:
            remarks.say()
    return 0


class _Remarks:
    """What is to be said of pairs that a model could not read as they are.

    Args:
        max_len: tokens of a pair that it reads.
    """

    def __init__(self, max_len: int) -> None:
        self.max_len = max_len
        self.forget()

    def forget(self) -> None:
        """Count from nothing."""
        self.cut, self.unknown_shares = 0, array("d")

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Count pairs."""
        for prediction in predictions:
            self.cut += prediction.is_cut
            self.unknown_shares.append(prediction.unknown_share)

    def say(self) -> None:
        """Print to standard error what is worth it, once."""
        if self.cut:
            print(
                f"{self.cut} of {len(self.unknown_shares)} pairs had more than {self.max_len} "
                "tokens and were cut; --max-len sets another length",
                file=sys.stderr,
            )
        unread = corpora.describe_unknown(np.array(self.unknown_shares))
        if unread:
            print(unread, file=sys.stderr)
        self.forget()


def _pairs(args: argparse.Namespace, stack: ExitStack) -> tuple[Iterable[Pair], int]:
    """Return the pairs, and how many to wait for before some are computed."""
    if args.pair:
        return [(args.pair[0], args.pair[1])], 1
    columns = args.premise_column, args.hypothesis_column
    if args.file is not None:
        file = stack.enter_context(open_pairs(args.file))
        pairs = pairs_of(file, args.file, args.table_format or format_of(args.file), columns)
        return pairs, args.batch_size * BATCHES_AT_ONCE
    lines = io.BufferedReader(BoundedLines(sys.stdin.buffer, "standard input"))
    pairs = pairs_of(lines, "standard input", args.table_format, columns)
    if sys.stdin.isatty():
        print("one pair per line: premise, tab, hypothesis; Ctrl-D ends", file=sys.stderr)
        return pairs, 1
    return pairs, args.batch_size


def _chunks(pairs: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    """Yield the pairs, some at a time; those before a bad line come before its error."""
    chunk: list[Pair] = []
    try:
        for pair in pairs:
            chunk.append(pair)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except BERTNLIError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _as_text(prediction: Prediction) -> str:
    numbers = (f"{label}={p:.4f}" for label, p in prediction.probabilities.items())
    return "\t".join([prediction.label, *numbers])


def _as_json(pair: Pair, prediction: Prediction) -> str:
    return json.dumps(
        {
            "premise": pair[0],
            "hypothesis": pair[1],
            "label": prediction.label,
            "probabilities": prediction.probabilities,
            "unknown_share": round(prediction.unknown_share, 4),
            "is_cut": prediction.is_cut,
        }
    )
