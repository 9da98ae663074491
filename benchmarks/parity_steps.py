"""Steps of training on both backends, side by side: how far their losses part.

The same start, the same batches, no dropout; fine-tuning a pretrained model on labelled pairs, or
pretraining one of bert.small's sizes on text. A backend's steps are those of `bertnli train` and
`bertnli pretrain` with `--recipe best`.

usage:
  python benchmarks/parity_steps.py --pretrained MODEL --train train.tsv --steps 200 --json a.json
  python benchmarks/parity_steps.py --text corpus.txt --steps 50 --json b.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import bertnli
from bertnli.backends.interface import Backend
from bertnli.bert.config import ACTIVATIONS, PRESETS
from bertnli.data.dataset import PairDataset
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import build_text_vocab, read_text
from bertnli.training.sets import Source

#: Steps whose losses are shown.
SHOWN = (1, 10, 25, 50, 100, 150, 200, 300, 500, 1000)


def fine_tuning(args: argparse.Namespace) -> tuple[Any, Callable[[Backend], Any]]:
    """Return the labelled pairs, and what makes the net to train on them."""
    _, vocab = bertnli.get_backend("torch").load_pretrained_model(args.pretrained)
    corpus = bertnli.read(args.train, on_error="skip")

    def make(nli: Backend) -> Any:
        return nli.BERTClassifier(nli.load_pretrained_model(args.pretrained, dropout=0.0)[0])

    return PairDataset(corpus, 128, vocab, verbose=False), make


def pretraining(args: argparse.Namespace) -> tuple[Any, Callable[[Backend], Any]]:
    """Return the examples of the text, and what makes the net to train on them."""
    text = read_text(args.text)
    vocab = build_text_vocab(text, 4)

    def make(nli: Backend) -> Any:
        sizes = PRESETS[args.model]
        bert = nli.BERTModel(
            len(vocab), **sizes, dropout=0.0, activation=args.activation, vocab=vocab
        )
        return nli.BERTForPretraining(bert)

    return PretrainingSet(text, 64, vocab), make


def main() -> None:
    """Train on both, and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pretrained")
    parser.add_argument("--train")
    parser.add_argument("--text", nargs="+")
    parser.add_argument("--model", default="bert.small", choices=sorted(PRESETS))
    parser.add_argument("--activation", default="relu", choices=ACTIVATIONS)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if (args.text is None) == (args.pretrained is None or args.train is None):
        parser.error("give --pretrained and --train, or --text")
    data, make = pretraining(args) if args.text else fine_tuning(args)
    losses: dict[str, list[float]] = {}
    for name in ("torch", "mxnet"):
        nli = bertnli.get_backend(name)
        trainer = nli.Trainer(make(nli), args.lr, "cpu", recipe="best")
        source = Source(data, trainer.net, trainer.engine.loader_batch)
        epochs = (source.train_batches(args.batch_size, 0, epoch) for epoch in range(args.steps))
        start = time.perf_counter()
        result = losses[name] = []
        for step, batch in enumerate(islice(chain.from_iterable(epochs), args.steps)):
            lr = trainer.config.lr_at(step, args.steps)
            result.append(trainer.train_step(batch, lr, step).read()[0] / len(batch))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    apart = [abs(a - b) for a, b in zip(*losses.values(), strict=True)]
    print(
        "\n| step | loss, PyTorch | loss, MXNet | apart | most so far |\n|---:|---:|---:|---:|---:|"
    )
    for step in (step for step in SHOWN if step <= args.steps):
        a, b = (result[step - 1] for result in losses.values())
        most = max(apart[:step])
        print(f"| {step} | {a:.6f} | {b:.6f} | {apart[step - 1]:.1e} | {most:.1e} |")
    if args.json is not None:
        settings = {"model": args.pretrained or args.model, "steps": args.steps}
        settings.update(batch_size=args.batch_size, lr=args.lr)
        args.json.write_text(json.dumps({**settings, "losses": losses}, indent=1) + "\n")


if __name__ == "__main__":
    main()
