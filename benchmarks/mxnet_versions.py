"""One training run on several installations of MXNet: the digest of its numbers, and its speed.

    python benchmarks/mxnet_versions.py OLD/bin/python NEW/bin/python --rounds 5

Each interpreter is a process that waits for its turn and takes it in rotation; the first round does
not count. A turn trains a BERT of bert.small's sizes on the sample that comes with bertnli, from
the same start, and evaluates it. The digest is of all losses, weights and logits of the first turn:
where two are equal, so is every bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from itertools import chain, islice
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the driver, or one of its workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--steps", type=int, default=8, help="of a turn")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    if args.pythons:
        drive(args)
    else:
        work(args)


def work(args: argparse.Namespace) -> None:
    """Take a turn for each line of standard input."""
    import numpy as np

    import bertnli
    from bertnli.bert.config import PRESETS
    from bertnli.data.dataset import PairDataset
    from bertnli.training.sets import Source

    nli = bertnli.get_backend("mxnet")
    bert = nli.load_pretrained_model("bert.mini")[0]
    corpus = bertnli.read("sample", "train")
    sizes = {**PRESETS["bert.small"], "dropout": 0.1}
    for turn, _ in enumerate(sys.stdin):
        model = nli.BERTModel(len(bert.vocab), **sizes, vocab=bert.vocab)
        net = nli.BERTClassifier(model)
        trainer = nli.Trainer(net, 1e-4, "cpu")
        source = Source(PairDataset(corpus, 128, bert.vocab, verbose=False), net, None)
        epochs = (source.train_batches(args.batch_size, 0, epoch) for epoch in range(args.steps))
        batches = list(islice(chain.from_iterable(epochs), args.steps))
        start = time.perf_counter()
        losses = [trainer.train_step(b, 1e-4, step).read()[0] for step, b in enumerate(batches)]
        trained = time.perf_counter()
        logits = [trainer.eval_step(b) for b in batches]
        end = time.perf_counter()
        pairs = sum(map(len, batches))
        answer: dict[str, Any] = {
            "versions": f"MXNet {nli.backend_info()['version']}, NumPy {np.__version__}, "
            f"Python {sys.version.split()[0]}",
            "train": pairs / (trained - start),
            "evaluate": pairs / (end - trained),
        }
        if turn == 0:
            digest = hashlib.sha256(np.array(losses, np.float64).tobytes())
            for array in (*net.arrays().values(), *logits):
                digest.update(np.ascontiguousarray(array).tobytes())
            answer["digest"] = digest.hexdigest()
        print(json.dumps(answer), flush=True)


def drive(args: argparse.Namespace) -> None:
    """Let the workers take turns, and print a table."""
    options = [f"--{name}={vars(args)[name]}" for name in ("steps", "batch_size")]
    options = [option.replace("_", "-") for option in options]
    workers = [
        subprocess.Popen(
            [python, __file__, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for python in args.pythons
    ]
    answers: list[list[dict[str, Any]]] = [[] for _ in workers]
    for _ in range(args.rounds + 1):
        for worker, seen in zip(workers, answers, strict=True):
            assert worker.stdin is not None and worker.stdout is not None
            print("turn", file=worker.stdin, flush=True)
            seen.append(json.loads(worker.stdout.readline()))
    print("| | trained, pairs/s | evaluated, pairs/s | digest |\n|---|---|---|---|")
    for (first, *rest), worker in zip(answers, workers, strict=True):
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait()
        columns = ([each[name] for each in rest] for name in ("train", "evaluate"))
        cells = (f"{statistics.median(c):.0f} ({min(c):.0f}-{max(c):.0f})" for c in columns)
        print(f"| {first['versions']} | {' | '.join(cells)} | `{first['digest'][:12]}` |")
    if args.json is not None:
        args.json.write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
