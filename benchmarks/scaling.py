"""What a pair costs as things grow: corpus, length, batch, layers. It should be linear in tokens.

    python benchmarks/scaling.py --data snli_train.tsv.gz --json result.json --plot scaling.png

Corpora are whole epochs, trained and evaluated, made of the data's pairs in turn. Everything else
is a few steps on random tokens; one count is varied, the others stay at bert.small's sizes, batches
of 256 pairs and 32 tokens. Medians of three.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import Pairs, encode

import bertnli
from bertnli.bert.config import PRESETS, BERTConfig
from bertnli.data.batches import Batch
from bertnli.data.encode import EncodedPairs
from bertnli.text.vocab import Vocab

VOCAB_SIZE, BATCH_SIZE, LENGTH = 60_005, 256, 32
CORPORA = (10_000, 100_000, 549_367)
LENGTHS, BATCH_SIZES, LAYERS = (8, 16, 32, 64, 128), (16, 64, 256, 1024), (1, 2, 4, 8)
ROUNDS = 3


def main() -> None:
    """Measure, print the tables, write the JSON and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a TSV file of labelled pairs, or its ids")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--corpora", type=int, nargs="*", default=CORPORA, help="numbers of pairs")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--plot", type=Path, help="draw it here")
    args = parser.parse_args()

    nli = bertnli.get_backend(args.backend)
    result = {
        "pairs in the corpus": corpora(nli, args),
        "tokens in a pair": [{"count": n, **measured(nli, args, length=n)} for n in LENGTHS],
        "pairs in a batch": [
            {"count": n, **measured(nli, args, batch_size=n)} for n in BATCH_SIZES
        ],
        "layers": [{"count": n, **measured(nli, args, num_blks=n)} for n in LAYERS],
    }
    for what, rows in result.items():
        print(f"\n| {what} | train, us per token | evaluate, us per token | pairs/s in training |")
        print("|---|---|---|---|")
        for row in rows:
            costs = f"{row['train_us']:.2f} | {row['evaluate_us']:.2f}"
            print(f"| {row['count']:,} | {costs} | {1e6 / row['train_us'] / row['tokens']:,.0f} |")
    if args.json:
        settings = {"backend": args.backend, "precision": args.precision, "cores": os.cpu_count()}
        args.json.write_text(json.dumps({**settings, "results": result}, indent=2) + "\n")
    if args.plot:
        plot(result, args.plot)


def trainer_of(nli: Any, args: argparse.Namespace, num_blks: int = 2) -> Any:
    """Return a trainer of a new classifier."""
    sizes = {**PRESETS["bert.small"], "num_blks": num_blks}
    config = BERTConfig(VOCAB_SIZE, dropout=0.1, **sizes)
    net = nli.BERTClassifier(nli.BERTModel(**config.to_dict(), vocab=vocabulary()))
    return nli.Trainer(net, devices="cpu", precision=args.precision)


def vocabulary() -> Vocab:
    """Return tokens without a meaning."""
    words = [f"w{i}" for i in range(VOCAB_SIZE - 5)]
    return Vocab(words, reserved_tokens=["<cls>", "<mask>", "<pad>", "<sep>"])


def corpora(nli: Any, args: argparse.Namespace) -> list[dict[str, float]]:
    """Return the cost of an epoch of corpora of several sizes."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = Pairs(encode(args.data, folder))
    trainer = trainer_of(nli, args)
    rows = []
    for count in args.corpora:
        places = np.arange(count) % len(pairs.labels)
        ids = np.concatenate([pairs.ids] * (count // len(pairs.labels) + 1))
        lengths = pairs.lengths[places]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        encoded = EncodedPairs(
            ids[: offsets[-1]], offsets, pairs.premise_lens[places], pairs.labels[places]
        )
        dataset = nli.SNLIBERTDataset(encoded, 128, trainer.net.vocab, verbose=False)
        start = time.perf_counter()
        trainer.fit(dataset, None, 1, 512, progress=False)
        middle = time.perf_counter()
        trainer.evaluate(dataset)
        end = time.perf_counter()
        tokens = int(offsets[-1])
        rows.append(
            {
                "count": count,
                "tokens": tokens / count,
                "train_us": (middle - start) / tokens * 1e6,
                "evaluate_us": (end - middle) / tokens * 1e6,
            }
        )
        print(rows[-1], flush=True)
    return rows


def measured(
    nli: Any,
    args: argparse.Namespace,
    length: int = LENGTH,
    batch_size: int = BATCH_SIZE,
    num_blks: int = 2,
) -> dict[str, float]:
    """Return the cost of steps on pairs that are all equally long."""
    trainer = trainer_of(nli, args, num_blks)
    rng = np.random.default_rng(0)
    tokens = batch_size * length
    steps = max(1, 50_000 // tokens)
    train, evaluate = [], []
    for turn in range(ROUNDS + 1):
        batches = [batch(rng, batch_size, length) for _ in range(steps)]
        start = time.perf_counter()
        for step, part in enumerate(batches):
            trainer.train_step(part, 1e-4, step).read()
        middle = time.perf_counter()
        for part in batches:
            trainer.eval_step(part)
        if turn:
            train.append((middle - start) / steps / tokens * 1e6)
            evaluate.append((time.perf_counter() - middle) / steps / tokens * 1e6)
    return {
        "tokens": length,
        "train_us": statistics.median(train),
        "evaluate_us": statistics.median(evaluate),
    }


def batch(rng: np.random.Generator, batch_size: int, length: int) -> Batch:
    """Return pairs of random tokens, frequent ones as frequent as words are."""
    ids = np.minimum(rng.zipf(1.3, (batch_size, length)), VOCAB_SIZE - 6) + 5
    segments = np.arange(length) >= length // 2
    return Batch(
        ids.astype(np.int32),
        np.broadcast_to(segments, ids.shape).astype(np.int32),
        np.full(batch_size, length, np.int32),
        rng.integers(0, 3, batch_size).astype(np.int32),
    )


def plot(result: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw the cost of a token against each count."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(result), figsize=(14, 3.2), layout="constrained")
    for axis, (what, rows) in zip(axes, result.items(), strict=True):
        counts = [row["count"] for row in rows]
        for key, name, marker in (("train_us", "train", "o"), ("evaluate_us", "evaluate", "s")):
            axis.plot(counts, [row[key] for row in rows], marker=marker, label=name)
        axis.set(xscale="log", xlabel=what, ylim=(0, None))
        axis.set_xticks(counts, [f"{count:,.0f}" for count in counts])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("microseconds per token")
    axes[0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
