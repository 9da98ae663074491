"""Train the same small BERT on both backends and compare the two runs, in about a minute.

example:
  bertnli demo --output runs/demo
      trains from scratch on the corpus that comes with bertnli, and writes both classifiers and
      the curves of both in one picture
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bertnli.backends import available_backends, get_backend
from bertnli.cli.options import positive
from bertnli.config import BERTConfig
from bertnli.data.dataset import build_vocab
from bertnli.data.snli import read_sample
from bertnli.errors import BackendError
from bertnli.training.history import plot_histories

PAIR = ("A man is sleeping on the sofa.", "A man is awake.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--output", default="runs/demo", metavar="DIR", help="folder of the runs")
    parser.add_argument("--epochs", type=positive, default=10)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    names = available_backends()
    if not names:
        raise BackendError('no framework is installed: pip install "bertnli[torch,mxnet]"')
    train, dev = read_sample("train"), read_sample("dev")
    vocab = build_vocab(train, min_freq=2)
    sizes = BERTConfig(len(vocab), 128, 256, 4, 2, dropout=0.0, max_len=64)
    print(f"{len(train.labels)} training pairs, {len(dev.labels)} dev pairs, {len(vocab)} tokens")
    output = Path(arguments.output)
    histories, logits = {}, {}
    for name in names:
        print(f"\n{name}")
        nli = get_backend(name)
        net = nli.BERTClassifier(nli.BERTModel(**sizes.to_dict(), vocab=vocab))
        trainer = nli.Trainer(net, lr=1e-3, schedule="linear", warmup=0.1)
        train_set, dev_set = (
            nli.SNLIBERTDataset(corpus, 64, vocab, verbose=False) for corpus in (train, dev)
        )
        histories[name] = trainer.fit(
            train_set,
            dev_set,
            arguments.epochs,
            batch_size=32,
            output=output / name,
            overwrite=True,
            progress=False,
            on_epoch=lambda record: print(record, flush=True),
        )
        logits[name] = net.logits(dev_set.batch(np.arange(len(dev_set))))
        answer = net.predict([PAIR])[0]
        print(f"{PAIR[0]} / {PAIR[1]} -> {answer.label}")
    if len(names) > 1:
        _compare(names, histories, logits)
    plot_histories(histories, output / "curves.png")
    print(f"\ncurves of all runs: {output / 'curves.png'}")
    print(f'try: bertnli predict --checkpoint {output / names[0]} "PREMISE" "HYPOTHESIS"')
    return 0


def _compare(names: list[str], histories: dict, logits: dict) -> None:
    first, second = names
    steps = zip(histories[first].step_losses, histories[second].step_losses, strict=True)
    scores = [histories[name].epochs[-1].dev_accuracy for name in names]
    same = (logits[first].argmax(1) == logits[second].argmax(1)).mean()
    print(f"\n{first} against {second}, same start, same data, no dropout")
    print(f"  dev accuracy                 {scores[0]:.3f} and {scores[1]:.3f}")
    print(f"  largest difference of a step's loss {max(abs(a - b) for a, b in steps):.1e}")
    print(f"  same prediction on dev       {same:.1%}")
    print(f"  largest difference of a logit {abs(logits[first] - logits[second]).max():.1e}")
