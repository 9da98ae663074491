"""Time training, evaluation and the prediction of one pair, on both backends.

    python benchmarks/throughput.py --data snli_train.tsv.gz --json result.json
    python benchmarks/throughput.py --data snli_train.tsv.gz --size bert.base --batch-size 32

Configurations are processes that wait for their turn and take it in rotation; the first round does
not count. Also shown, for PyTorch in fp32: the useful operations per second of a training step, as
a share of the rate that its matrix products reach by themselves, in the same process and turn.
Useful are those of real tokens, the last block for ``<cls>`` alone, three times the forward pass;
needed, those of them that our model does not do without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from peers import Pairs, batches, encode

CONFIGURATIONS = (("torch", "fp32"), ("torch", "bf16"), ("mxnet", "fp32"))
VOCAB_SIZE = 60_005
PAIR = ("A man in a blue shirt is standing on a ladder cleaning a window.", "A man is outside.")


def main() -> None:
    """Run the driver, or one of its workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a TSV file of labelled pairs, or its ids")
    parser.add_argument("--size", default="bert.small", choices=("bert.small", "bert.base"))
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args, *args.worker)
    else:
        drive(args)


def work(args: argparse.Namespace, backend: str, precision: str) -> None:
    """Take a turn for each line of standard input."""
    import bertnli
    from bertnli.bert.config import PRESETS
    from bertnli.data.batches import Batch
    from bertnli.data.packing import split_by_length
    from bertnli.text.vocab import Vocab

    pairs = Pairs(args.data)
    nli = bertnli.get_backend(backend)
    words = [f"w{i}" for i in range(VOCAB_SIZE - 5)]
    vocab = Vocab(words, reserved_tokens=["<cls>", "<mask>", "<pad>", "<sep>"])
    bert = nli.BERTModel(VOCAB_SIZE, **PRESETS[args.size], dropout=0.1, vocab=vocab)
    net = nli.BERTClassifier(bert)
    trainer = nli.Trainer(net, devices="cpu", precision=precision)
    order = np.random.default_rng(0).permutation(len(pairs.labels))

    def batch(rows: np.ndarray) -> Batch:
        return Batch(*(array.astype(np.int32) for array in pairs.padded(rows)))

    print("ready", flush=True)
    for turn, line in enumerate(sys.stdin):
        steps = int(line)
        rows = np.roll(order, -turn * args.steps * args.batch_size)[: steps * args.batch_size]
        start, waiting = time.perf_counter(), None
        for step, part in enumerate(batches(rows, args.batch_size)):
            result = trainer.train_step(batch(part), 1e-4, step)
            if waiting is not None:
                waiting.read()
            waiting = result
        assert waiting is not None
        waiting.read()
        train_seconds = time.perf_counter() - start
        start = time.perf_counter()
        for part in batches(rows[np.argsort(-pairs.lengths[rows])], 256):
            trainer.eval_step(batch(part))
        eval_seconds = time.perf_counter() - start
        latencies = []
        for _ in range(30 * steps):
            start = time.perf_counter()
            net.predict([PAIR])
            latencies.append(time.perf_counter() - start)
        answer = {
            "train": len(rows) / train_seconds,
            "evaluate": len(rows) / eval_seconds,
            "p50_ms": float(np.percentile(latencies, 50)) * 1e3,
            "p99_ms": float(np.percentile(latencies, 99)) * 1e3,
        }
        if (backend, precision) == ("torch", "fp32"):
            useful = useful_operations(net.config, pairs.lengths[rows])
            parts = (p for b in batches(rows, args.batch_size) for p in split_by_length(batch(b)))
            needed = useful - spared_operations(net.config, parts)
            answer["useful_gflops"] = useful / train_seconds / 1e9
            answer["needed_gflops"] = needed / train_seconds / 1e9
            answer["matrix_gflops"] = matrix_rate(net.config) / 1e9
        print(json.dumps(answer), flush=True)


def useful_operations(config: Any, lengths: np.ndarray) -> float:
    """Return the operations of a training step that depend on the pairs: two per multiply-add.

    Counted are all real tokens in all blocks but the last, of which keys and values of all tokens
    and the rest of one in each pair.
    """
    H, F = config.num_hiddens, config.ffn_num_hiddens
    tokens, squares, pairs = lengths.sum(), (lengths.astype(float) ** 2).sum(), len(lengths)
    whole = tokens * (8 * H * H + 4 * H * F) + 4 * H * squares
    last = tokens * 4 * H * H + pairs * (4 * H * H + 4 * H * F) + 4 * H * tokens
    head = pairs * (2 * H * H + 6 * H)
    return 3 * float((config.num_blks - 1) * whole + last + head)


def spared_operations(config: Any, parts: Iterable[Any]) -> float:
    """Return how many of these our model does without.

    The first block projects distinct tokens and places, the last one no keys and no values.

    Args:
        config: the model's.
        parts: the batches, in the parts that are computed together.
    """
    H, h = config.num_hiddens, config.num_heads
    spared = 0.0
    for part in parts:
        width, tokens = part.token_ids.shape[1], int(part.valid_lens.sum())
        places = part.segments * width + np.arange(width)
        distinct = len(np.unique(part.token_ids)) + len(np.unique(places))
        spared += 6 * H * H * (tokens - distinct)
        spared += tokens * (4 * H * H + 4 * H) - (tokens * 4 * H * h + len(part) * 4 * H * H)
    return 3 * spared


def matrix_rate(config: Any, rows: int = 4096) -> float:
    """Return the operations per second of the model's own products, forward and backward."""
    import torch

    from bertnli.backends.torch.kernels import linear

    H, F = config.num_hiddens, config.ffn_num_hiddens
    operations = seconds = 0.0
    for out, inner, count in ((H, H, 2), (2 * H, H, 1), (F, H, 1), (H, F, 1)):
        x = torch.randn(rows, inner, requires_grad=True)
        weight = torch.randn(out, inner, requires_grad=True)
        bias, gradient = torch.zeros(out), torch.randn(rows, out)
        times = []
        for _ in range(8):
            start = time.perf_counter()
            linear(x, weight, bias).backward(gradient)
            times.append(time.perf_counter() - start)
        seconds += count * statistics.median(times)
        operations += count * 6.0 * rows * out * inner
    return operations / seconds


def drive(args: argparse.Namespace) -> None:
    """Give each configuration its turns, and print and write what they took."""
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = encode(args.data, folder)
        workers = {}
        for backend, precision in CONFIGURATIONS:
            command = [sys.executable, __file__, "--worker", backend, precision, "--data", data]
            command += ["--size", args.size, "--batch-size", str(args.batch_size)]
            process = subprocess.Popen(
                [*command, "--steps", str(args.steps)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            workers[f"{backend} {precision}"] = process
            _read(process)
        for turn in range(args.rounds + 1):
            names = list(workers)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                process = workers[name]
                assert process.stdin is not None
                process.stdin.write(f"{args.steps if turn else 2}\n")
                process.stdin.flush()
                answer = json.loads(_read(process))
                if turn:
                    for key, value in answer.items():
                        results.setdefault(name, {}).setdefault(key, []).append(value)
        for process in workers.values():
            process.kill()
    print(f"{args.size}, batch {args.batch_size}, medians of {args.rounds} rounds\n")
    print("| | train, pairs/s | evaluate, pairs/s | one pair, p50, ms | p99, ms |")
    print("|---|---|---|---|---|")
    for name, result in results.items():
        middle = {key: statistics.median(values) for key, values in result.items()}
        print(
            f"| {name} | {middle['train']:,.0f} | {middle['evaluate']:,.0f} | "
            f"{middle['p50_ms']:.1f} | {middle['p99_ms']:.1f} |"
        )
    result = results["torch fp32"]
    alone = statistics.median(result["matrix_gflops"])
    print(f"\na torch fp32 training step, of the {alone:.0f} GFLOP/s of its matrix products alone:")
    for kind in ("useful", "needed"):
        rates = result[f"{kind}_gflops"]
        shares = [rate / m for rate, m in zip(rates, result["matrix_gflops"], strict=True)]
        print(
            f"{kind} operations: {statistics.median(rates):.0f} GFLOP/s, "
            f"{statistics.median(shares):.0%}"
        )
    if args.json:
        settings = {"size": args.size, "batch_size": args.batch_size, "cores": os.cpu_count()}
        Path(args.json).write_text(json.dumps({**settings, "results": results}, indent=2) + "\n")


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a worker failed; its error is above")
    return line


if __name__ == "__main__":
    main()
