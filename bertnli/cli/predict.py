"""Print the class of sentence pairs: one line for each, in their order, with all probabilities.

Pairs come from the command line, from a source such as a file, or else from standard input: one
pair per line, with a tab between premise and hypothesis, or JSON objects. Those of standard input
are answered as they come. A table has these two columns only, or a header that names them.

examples:
  bertnli predict bert.mini --pair "A man is asleep." "A man is awake."
  bertnli predict runs/sample pairs.csv
  bertnli predict runs/sample pairs.tsv --json > predictions.jsonl
  printf 'A man is asleep.\\tA man is awake.\\n' | bertnli predict runs/sample
"""

from __future__ import annotations

import argparse
import json
import sys

from bertnli.api.predict import STANDARD_INPUT, predict
from bertnli.cli import corpora, options
from bertnli.errors import ConfigError
from bertnli.nets.classifier import Prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_model_argument(parser)
    parser.add_argument(
        "source",
        nargs="?",
        metavar=corpora.SOURCE,
        help=f"{corpora.SOURCE_HELP} (default: standard input)",
    )
    parser.add_argument(
        "--pair",
        nargs=2,
        metavar=("PREMISE", "HYPOTHESIS"),
        help="two sentences, as people write them, instead of a source",
    )
    corpora.add_split_option(parser, "none")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON objects with premise, hypothesis, label, probabilities, unknown_share (of "
        "the tokens, those that the model does not know) and is_cut (longer than --max-len)",
    )
    corpora.add_reading_options(parser, columns=("premise", "hypothesis"))
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 64)
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, and print each pair's class."""
    reading = corpora.reading_of(args)
    if args.pair is not None and (args.source or args.split or reading):
        raise ConfigError("give either --pair or a source and how it is read, not both")
    source = args.source or STANDARD_INPUT
    if args.pair is None and source == STANDARD_INPUT and sys.stdin.isatty():
        print("one pair per line: premise, tab, hypothesis; Ctrl-D ends", file=sys.stderr)
    found = predict(
        args.model,
        [tuple(args.pair)] if args.pair else source,
        args.split,
        batch_size=args.batch_size,
        **options.loading_of(args),
        **options.cut_of(args),
        **reading,
    )
    prediction = None
    for prediction in found:
        print(_as_json(prediction) if args.json else _as_text(prediction), flush=True)
    if prediction is None:
        print(f"{args.source or 'standard input'} has no pairs", file=sys.stderr)
    return 0


def _as_text(prediction: Prediction) -> str:
    numbers = (f"{label}={p:.4f}" for label, p in prediction.probabilities.items())
    return "\t".join([prediction.label, *numbers])


def _as_json(prediction: Prediction) -> str:
    return json.dumps(
        {
            "premise": prediction.premise,
            "hypothesis": prediction.hypothesis,
            "label": prediction.label,
            "probabilities": prediction.probabilities,
            "unknown_share": round(prediction.unknown_share, 4),
            "is_cut": prediction.is_cut,
        }
    )
