"""What a limit on a pair's tokens costs, and whether it matters how pairs are cut.

    python benchmarks/truncation.py dev.tsv --checkpoint runs/small --json truncation.json

For each limit (max_len, three special tokens included): the share of pairs that are too long, and
of those that the book's rule and the ratio rule leave with other lengths; how many tokens of
premise and hypothesis are lost on average, of the pairs that are cut; and, with a checkpoint, its
accuracy with either rule: on all pairs, and on those that the rules cut differently.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bertnli
from bertnli.bert.labels import label_permutation
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.evaluation import logits_of, wilson_interval
from bertnli.text.pairs import TRUNCATIONS, truncated_lengths
from bertnli.text.tokenize import lower_tokens

MAX_LENS = (16, 20, 24, 32, 48, 64, 128)


def main() -> None:
    """Count, score, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a labelled file, or a folder of SNLI's files")
    parser.add_argument("--split", default="dev", help="of a folder")
    parser.add_argument("--checkpoint", help="of a classifier, to score with")
    parser.add_argument("--backend", help="torch or mxnet")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()

    split = args.split if args.data.is_dir() else None
    corpus = bertnli.read(args.data, split, on_error="skip")
    net = None if args.checkpoint is None else bertnli.load(args.checkpoint, args.backend)
    lengths = sentence_lengths(corpus, net)
    special = 3 if net is None else net.vocab.num_special
    rows = []
    for max_len in MAX_LENS:
        row, differs = counts(lengths, max_len, special)
        if net is not None and max_len <= net.config.max_len:
            row |= accuracies(net, corpus, max_len, differs)
        rows.append(row)
    show(rows)
    if args.json is not None:
        settings = {key: str(value) for key, value in vars(args).items()}
        result = {"arguments": settings, "pairs": len(corpus.labels), "rows": rows}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def sentence_lengths(corpus: Corpus, net: Any) -> NDArray[np.int64]:
    """Return the tokens of each premise and hypothesis, (N, 2): the net's, or else words."""
    if net is None:
        columns = [lower_tokens(column, corpus.tokenized) for column in corpus[:2]]
    else:
        columns = [net.vocab.ids_of(column, corpus.tokenized) for column in corpus[:2]]
    return np.array([[len(a), len(b)] for a, b in zip(*columns, strict=True)])


def counts(
    lengths: NDArray[np.int64], max_len: int, special: int
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Return what either rule takes away, and which pairs (N,) the two cut differently."""
    kept = {
        rule: np.array(
            [truncated_lengths(int(a), int(b), max_len - special, rule) for a, b in lengths]
        )
        for rule in TRUNCATIONS
    }
    cut = lengths.sum(axis=1) > max_len - special
    differs = (kept["book"] != kept["ratio"]).any(axis=1)
    row: dict[str, Any] = {"max_len": max_len, "cut": cut.mean(), "differs": differs.mean()}
    for rule in TRUNCATIONS:
        lost = (lengths - kept[rule])[cut]
        means = lost.mean(axis=0) if len(lost) else np.zeros(2)
        row[f"{rule}_lost"] = [float(means[0]), float(means[1])]
    return row, differs


def accuracies(
    net: Any, corpus: Corpus, max_len: int, differs: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return either rule's accuracy, and on which pairs one alone is right."""
    result: dict[str, Any] = {}
    places = label_permutation(net.labels, corpus.label_names)
    right = {}
    for rule in TRUNCATIONS:
        dataset = PairDataset(corpus, max_len, net.vocab, truncation=rule, verbose=False)
        right[rule] = logits_of(net, dataset)[:, places].argmax(axis=1) == corpus.labels
        result[f"{rule}_accuracy"] = float(right[rule].mean())
        correct, total = int(right[rule].sum()), len(right[rule])
        result[f"{rule}_interval"] = wilson_interval(correct, total)
        result[f"{rule}_accuracy_where_they_differ"] = (
            float(right[rule][differs].mean()) if differs.any() else None
        )
    result["book_alone_right"] = int((right["book"] & ~right["ratio"]).sum())
    result["ratio_alone_right"] = int((right["ratio"] & ~right["book"]).sum())
    return result


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table in Markdown."""
    head = ["max_len", "cut", "cut differently", "book: premise, hypothesis lost"]
    head += ["ratio: premise, hypothesis lost"]
    scored = any("book_accuracy" in row for row in rows)
    if scored:
        head += ["book: accuracy", "ratio: accuracy", "only book right", "only ratio right"]
    print(f"| {' | '.join(head)} |\n|{'---:|' * len(head)}")
    for row in rows:
        cells = [str(row["max_len"]), f"{row['cut']:.1%}", f"{row['differs']:.1%}"]
        cells += [", ".join(f"{n:.1f}" for n in row[f"{rule}_lost"]) for rule in TRUNCATIONS]
        if "book_accuracy" in row:
            cells += [f"{100 * row[f'{rule}_accuracy']:.1f} %" for rule in TRUNCATIONS]
            cells += [str(row[f"{rule}_alone_right"]) for rule in TRUNCATIONS]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
