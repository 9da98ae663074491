"""Where a training step's time goes, by kind of operator, in the book's loop and in ours.

    python benchmarks/operators.py --data snli_train.tsv.gz --json result.json

Runs in the peers' environment (see peers.py). One batch of 512 pairs, bert.small's sizes, the
frameworks' own profilers; each configuration is a process of its own, after a batch to warm up.
What the operators do not account for is Python, and waiting.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peers import MAKERS, Pairs, encode

CONFIGURATIONS = ("d2l torch", "bertnli torch", "bertnli torch, bf16", "d2l mxnet", "bertnli mxnet")

#: The first pattern that is found in an operator's name says its kind.
KINDS = (
    ("Adam", r"adam|_foreach|AdamOptimizer|zero_grad"),
    ("matrix products", r"mm$|mm\b|linear|FullyConnected|dot|Linear|matmul"),
    ("dropout", r"dropout|bernoulli|Dropout|_npi_random|random|aten::ge\b"),
    ("softmax, normalisation", r"softmax|layer_norm|LayerNorm|BatchNorm"),
    (
        "moving data",
        r"copy|cat\b|Concat|index|gather|scatter|take|embedding|Embedding|reshape|transpose|"
        r"CopyTo|Copy|stack|repeat|Delete|slice|split|contiguous|clone",
    ),
    ("other", r""),
)


def main() -> None:
    """Run each configuration, and print and write what it spent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a TSV file of labelled pairs, or its ids")
    parser.add_argument("--size", default="bert.small", choices=("bert.small", "bert.base"))
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(profile(args)))
        return
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = encode(args.data, folder)
        for name in CONFIGURATIONS:
            command = [sys.executable, __file__, "--worker", name, "--data", data]
            command += ["--size", args.size, "--batch-size", str(args.batch_size)]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            result[name] = json.loads(out.splitlines()[-1])
    kinds = [*(kind for kind, _ in KINDS), "Python, waiting"]
    print(f"| milliseconds for {args.batch_size} pairs | {' | '.join(result)} |")
    print("|---|" + "---|" * len(result))
    for kind in [*kinds, "all"]:
        print(f"| {kind} | {' | '.join(f'{row.get(kind, 0):,.0f}' for row in result.values())} |")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def profile(args: argparse.Namespace) -> dict[str, float]:
    """Return the milliseconds of each kind of operator in a training step."""
    pairs = Pairs(args.data)
    make = next(make for name, make in MAKERS.items() if args.worker.startswith(name))
    train, _ = make(args, pairs)
    order = np.random.default_rng(0).permutation(len(pairs.labels))
    train(order[: args.batch_size])
    rows = order[args.batch_size : 2 * args.batch_size]
    mxnet = "mxnet" in args.worker
    seconds, operators = (_mxnet_profile if mxnet else _torch_profile)(lambda: train(rows))
    result = dict.fromkeys((kind for kind, _ in KINDS), 0.0)
    for name, milliseconds in operators.items():
        result[next(kind for kind, pattern in KINDS if re.search(pattern, name))] += milliseconds
    result["all"] = seconds * 1e3
    result["Python, waiting"] = max(0.0, result["all"] - sum(operators.values()))
    return result


def _torch_profile(step: Any) -> tuple[float, dict[str, float]]:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU]) as prof:
        seconds = step()
    rows = prof.key_averages()
    # Functions of autograd's are Python; what they call is counted by itself.
    own = [row for row in rows if "::" in row.key and not row.key.startswith("autograd")]
    return seconds, {row.key: row.self_cpu_time_total / 1e3 for row in own}


def _mxnet_profile(step: Any) -> tuple[float, dict[str, float]]:
    import mxnet as mx

    mx.profiler.set_config(
        profile_imperative=True, aggregate_stats=True, filename=str(Path(tempfile.mkdtemp(), "p"))
    )
    mx.profiler.set_state("run")
    seconds = step()
    mx.nd.waitall()
    mx.profiler.set_state("stop")
    stats = json.loads(mx.profiler.dumps(format="json"))["Time"]["operator"]
    skipped = ("WaitForVar", "ResourceParallelRandomSetSeed")
    return seconds, {name: row["Total"] for name, row in stats.items() if name not in skipped}


if __name__ == "__main__":
    main()
