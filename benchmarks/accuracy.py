"""Does the fast path learn as well as the plain one? Paired seeds, dev accuracy.

    python benchmarks/accuracy.py --train snli_train.tsv --dev snli_1.0/ --json result.json

For each seed the same BERT is trained from the same start on the same batches twice: by
`Trainer.fit` with ``precision="auto"`` (packed rows, last block for <cls> only, parts by length,
Adam on the rows in use); and by a plain PyTorch loop in fp32 that pads each batch to its longest
pair, computes every position of every block and takes `torch.optim.Adam`. Then the weights that
the fast path found are evaluated along both paths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bertnli
from bertnli.backends.torch.devices import to_device
from bertnli.bert.config import PRESETS, TrainingConfig
from bertnli.data.batches import batches, sorted_batches
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab

#: Student's t for a two-sided 95 % interval, by degrees of freedom.
T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def main() -> None:
    """Train in pairs, and print and write what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, help="TSV, CSV or JSONL with named columns")
    parser.add_argument("--dev", required=True, help="such a file, or a folder of SNLI's files")
    parser.add_argument(
        "--held-out", type=int, default=0, help="pairs of the training file to evaluate on, too"
    )
    parser.add_argument("--model", default="bert.small", choices=sorted(PRESETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()

    corpus = bertnli.read(args.train)
    dev_corpus = bertnli.read(args.dev, "dev" if Path(args.dev).is_dir() else None)
    vocab = build_vocab(corpus, 2)
    nli = bertnli.get_backend("torch")
    order = np.random.default_rng(0).permutation(len(corpus.labels))
    held_out, rest = (select(corpus, rows) for rows in np.split(order, [args.held_out]))
    train, dev, own = (
        nli.SNLIBERTDataset(part, 128, vocab, verbose=False)
        for part in (rest, dev_corpus, held_out)
    )
    dev = [dev, own] if len(own) else [dev]
    sizes = " + ".join(str(len(part)) for part in dev)
    print(f"{len(train)} pairs, {sizes} dev pairs, {len(vocab)} tokens", flush=True)
    rows: list[dict[str, float]] = []
    for seed in range(args.seeds):
        rows.append(train_both(nli, args, train, dev, vocab, seed))
        print(json.dumps(rows[-1]), flush=True)
    report(args, rows)


def select(corpus: Corpus, rows: np.ndarray) -> Corpus:
    """Return some pairs of a corpus."""
    columns = ([column[i] for i in rows] for column in corpus)
    return Corpus(*columns, tokenized=corpus.tokenized, label_names=corpus.label_names)


def train_both(
    nli: Any, args: argparse.Namespace, train: Any, dev: list[PairDataset], vocab: Any, seed: int
) -> dict[str, float]:
    """Train along both paths, and return the dev accuracies in percent, and seconds."""

    def classifier() -> Any:
        bert = nli.BERTModel(len(vocab), **PRESETS[args.model], dropout=0.1, vocab=vocab, seed=seed)
        return nli.BERTClassifier(bert, seed=seed)

    start = time.perf_counter()
    fast = classifier()
    options = {"schedule": "linear", "warmup": 0.1, "seed": seed}
    trainer = nli.Trainer(fast, lr=args.lr, precision="auto", **options)
    trainer.fit(train, None, args.epochs, args.batch_size, progress=False)
    fast_seconds = time.perf_counter() - start
    start = time.perf_counter()
    plain = classifier()
    config = TrainingConfig(args.lr, num_epochs=args.epochs, batch_size=args.batch_size, **options)
    train_plainly(plain, train, config)
    result = {
        "seed": seed,
        "fast": accuracy(dev, lambda part: trainer.evaluate(part).accuracy),
        "plain": accuracy(dev, lambda part: padded_accuracy(plain, part)),
        "fast weights, plain path": accuracy(dev, lambda part: padded_accuracy(fast, part)),
        "fast_seconds": fast_seconds,
        "plain_seconds": time.perf_counter() - start,
    }
    precision, fast.precision = fast.precision, "fp32"
    result["fast weights, fast path, fp32"] = accuracy(
        dev, lambda part: trainer.evaluate(part).accuracy
    )
    fast.precision = precision
    return result


def accuracy(dev: list[PairDataset], of: Callable[[PairDataset], float]) -> float:
    """Return the percentage of all pairs that are classified right."""
    return 100 * sum(of(part) * len(part) for part in dev) / sum(len(part) for part in dev)


def padded_logits(net: Any, batch: Any) -> torch.Tensor:
    """Return the logits (B, labels) with nothing left out: every position of every block."""
    tokens, segments, valid_lens = to_device(batch, torch.device("cpu"))
    return net.output(net.hidden(net.encoder(tokens, segments, valid_lens)[:, 0]))


def train_plainly(net: Any, train: PairDataset, config: TrainingConfig) -> None:
    """Train with `torch.optim.Adam` on random batches, each padded to its longest pair."""
    optimizer = torch.optim.Adam(net.parameters())
    total = -(-len(train) // config.batch_size) * config.num_epochs
    torch.manual_seed(config.seed)
    net.train()
    step = 0
    for epoch in range(config.num_epochs):
        for batch in batches(train, config.batch_size, seed=config.seed, epoch=epoch, shuffle=True):
            optimizer.param_groups[0]["lr"] = config.lr_at(step, total)
            optimizer.zero_grad()
            labels = torch.from_numpy(batch.labels).long()
            torch.nn.functional.cross_entropy(padded_logits(net, batch), labels).backward()
            optimizer.step()
            step += 1


@torch.no_grad()
def padded_accuracy(net: Any, dev: PairDataset) -> float:
    """Return the accuracy along the plain path."""
    net.eval()
    hits = sum(
        int((padded_logits(net, batch).argmax(1).numpy() == batch.labels).sum())
        for _, batch in sorted_batches(dev, 64)
    )
    return hits / len(dev)


def report(args: argparse.Namespace, rows: list[dict[str, float]]) -> None:
    """Print the table, write the JSON."""
    columns = ["fast", "plain", "fast weights, plain path", "fast weights, fast path, fp32"]
    print(f"\n| seed | {' | '.join(columns)} | fast - plain |\n|{'---|' * (len(columns) + 2)}")
    for row in rows:
        cells = " | ".join(f"{row[column]:.2f}" for column in columns)
        print(f"| {row['seed']} | {cells} | {row['fast'] - row['plain']:+.2f} |")
    differences = [row["fast"] - row["plain"] for row in rows]
    mean = statistics.mean(differences)
    half = 0.0
    if len(rows) > 1:
        half = T95[len(rows) - 1] * statistics.stdev(differences) / len(rows) ** 0.5
    print(f"\nmean difference {mean:+.2f} points, 95 % interval {mean - half:+.2f} to ", end="")
    print(f"{mean + half:+.2f}")
    for name in ("fast", "fast weights, fast path, fp32"):
        most = max(abs(row[name] - row["fast weights, plain path"]) for row in rows)
        print(f"same weights, {name} against the plain path: at most {most:.3f} points apart")
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items()}
        result = {"arguments": settings, "rows": rows, "mean": mean, "half_interval": half}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
