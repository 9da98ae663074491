"""What each setting of a recipe is worth: the same fine-tuning with and without it, several seeds.

Settings are chosen on held-out pairs of the training split, never on dev: `--held-out` is what each
run is scored on.

usage:
  python benchmarks/recipes.py --train train90.tsv --held-out held10.tsv --pretrained bert.mini \\
      --epochs 3 --seeds 0 1 2 --json recipes.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import bertnli
from bertnli.data.dataset import PairDataset

LINEAR = {"schedule": "linear", "warmup": 0.1}
ADAMW = {**LINEAR, "weight_decay": 0.01}
CLIPPED = {**ADAMW, "clip_norm": 1.0}
#: Each adds something to one before it.
VARIANTS: dict[str, dict[str, Any]] = {
    "book": {},
    "linear, warm-up 0.1": LINEAR,
    "+ weight decay 0.01": ADAMW,
    "+ clipping at 1": CLIPPED,
    "+ layer decay 0.9": {**CLIPPED, "layer_decay": 0.9},
    "+ label smoothing 0.1": {**CLIPPED, "label_smoothing": 0.1},
    "+ average of the last fifth": {**CLIPPED, "average": 0.2},
}


def main() -> None:
    """Train each variant with each seed, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--train", required=True)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--pretrained", default="bert.mini")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-4, 5e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    nli = bertnli.get_backend(args.backend)
    _, vocab = nli.load_pretrained_model(args.pretrained)
    train, held_out = (
        PairDataset(bertnli.read(path, on_error="skip"), 128, vocab, verbose=False)
        for path in (args.train, args.held_out)
    )
    print(
        f"{args.pretrained}, {len(train)} pairs, {args.epochs} epochs of batches of "
        f"{args.batch_size}; accuracy on {len(held_out)} held-out pairs, mean and sample "
        f"standard deviation of {len(args.seeds)} seeds\n\n| setting | rate | accuracy | loss |\n"
        "|---|---:|---:|---:|"
    )
    results = []
    for name in args.variants:
        for rate in args.rates:
            scores = []
            for seed in args.seeds:
                bert, _ = nli.load_pretrained_model(args.pretrained)
                net = nli.BERTClassifier(bert, seed=seed)
                trainer = nli.Trainer(net, rate, seed=seed, precision="auto", **VARIANTS[name])
                trainer.fit(train, None, args.epochs, args.batch_size, progress=False)
                score = trainer.evaluate(held_out)
                scores.append((score.accuracy, score.loss))
            accuracies, losses = zip(*scores, strict=True)
            spread = statistics.stdev(accuracies) if len(scores) > 1 else 0.0
            mean, loss = statistics.mean(accuracies), statistics.mean(losses)
            print(f"| {name} | {rate:g} | {mean:.2%} ± {spread:.2%} | {loss:.3f} |", flush=True)
            results.append({"setting": name, "rate": rate, "accuracy": accuracies, "loss": losses})
            if args.json is not None:
                args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
