"""Time bertnli beside the book's own package and Hugging Face's, in one run.

    python benchmarks/peers.py --data snli_train.tsv.gz --json result.json
    python benchmarks/peers.py --data snli_train.tsv.gz --size bert.base --batch-size 32

The peers need an environment of their own, for d2l pins old versions:

    pip install -c constraints.txt -e ".[torch,mxnet]" "transformers<5" accelerate \\
        sentence-transformers matplotlib matplotlib-inline ipython pandas pillow scipy
    pip install --no-deps d2l==1.0.3

Each peer is a process that holds its model and waits; they compute in turn, never two at a time, in
an order that rotates from round to round, on the same pairs. The first round does not count. Peers
get their tensors ready-made; bertnli cuts and pads its batches within the time.

- d2l: the book's loop, fp32, every pair padded to 128. On MXNet as it comes, and with all cores.
- bertnli.d2l: the same loop with bertnli's modules of the book's names.
- transformers: `Trainer` with `BertForSequenceClassification` of the same sizes: padded to 128, as
  it comes; and padded to the longest of batches that `group_by_length` makes, in fp32 and bf16.
- sentence-transformers: `CrossEncoder.predict`, which tokenizes as well; inference only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VOCAB_SIZE, MAX_LEN, NUM_LABELS = 60_005, 128, 3

#: Batches of a turn in training and in evaluation; the slow ones get few.
PEERS: dict[str, tuple[int, int]] = {
    "d2l torch": (1, 1),
    "d2l mxnet": (1, 1),
    "d2l mxnet, all cores": (1, 1),
    "transformers, padded": (1, 1),
    "transformers, grouped": (4, 6),
    "transformers, grouped, bf16": (4, 6),
    "CrossEncoder": (0, 6),
    "bertnli.d2l torch": (1, 1),
    "bertnli.d2l mxnet": (1, 1),
    "bertnli torch": (6, 12),
    "bertnli torch, bf16": (6, 12),
    "bertnli mxnet": (6, 12),
}


def main() -> None:
    """Run the driver, or one of its workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a TSV file of labelled pairs, or its ids")
    parser.add_argument("--size", default="bert.small", choices=("bert.small", "bert.base"))
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="peers whose name has this in it")
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
    else:
        drive(args)


class Pairs:
    """Ragged ids of encoded pairs."""

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.ids, self.offsets = file["ids"], file["offsets"]
            self.premise_lens, self.labels = file["premise_lens"], file["labels"]
        self.lengths = np.diff(self.offsets)

    def padded(self, rows: np.ndarray, width: int | None = None) -> tuple[np.ndarray, ...]:
        """Return ids and segments (B, T), lengths and labels (B,), int64."""
        lengths = self.lengths[rows]
        width = width or int(lengths.max())
        columns = np.arange(width)
        valid = columns < lengths[:, None]
        ids = np.zeros(valid.shape, np.int64)
        ids[valid] = np.concatenate([self.ids[self.offsets[r] : self.offsets[r + 1]] for r in rows])
        segments = valid & (columns >= self.premise_lens[rows][:, None] + 2)
        return ids, segments.astype(np.int64), lengths, self.labels[rows].astype(np.int64)


def work(args: argparse.Namespace) -> None:
    """Answer the driver's commands, one JSON object per line."""
    answers, sys.stdout = sys.stdout, sys.stderr
    pairs = Pairs(args.data)
    make = next(make for name, make in MAKERS.items() if args.worker.startswith(name))
    steps, evaluate = make(args, pairs)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        rows = np.array(command["rows"])
        seconds = (steps if command["what"] == "train" else evaluate)(rows)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"pairs": len(rows), "seconds": seconds, "memory_mb": memory}
        print(json.dumps(answer), file=answers, flush=True)


Worker = tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], float]]


def batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut rows into batches."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def bertnli_worker(args: argparse.Namespace, pairs: Pairs) -> Worker:
    """`Trainer.train_step` and `eval_step`, results read a step late as `fit` does."""
    import bertnli
    from bertnli.bert.config import PRESETS
    from bertnli.data.batches import Batch

    nli = bertnli.get_backend("mxnet" if "mxnet" in args.worker else "torch")
    bert = nli.BERTModel(VOCAB_SIZE, **PRESETS[args.size], dropout=0.1)
    precision = "bf16" if "bf16" in args.worker else "fp32"
    trainer = nli.Trainer(nli.BERTClassifier(bert), devices="cpu", precision=precision)

    def batch(rows: np.ndarray) -> Batch:
        return Batch(*(array.astype(np.int32) for array in pairs.padded(rows)))

    def train(rows: np.ndarray) -> float:
        start, waiting = time.perf_counter(), []
        for step, part in enumerate(batches(rows, args.batch_size)):
            waiting.append(trainer.train_step(batch(part), 1e-4, step))
            if len(waiting) > 1:
                waiting.pop(0).read()
        waiting.pop().read()
        return time.perf_counter() - start

    def evaluate(rows: np.ndarray) -> float:
        start = time.perf_counter()
        for part in batches(rows[np.argsort(-pairs.lengths[rows])], 256):
            trainer.eval_step(batch(part))
        return time.perf_counter() - start

    return train, evaluate


def _import_d2l(worker: str) -> Any:
    """Import the book's package or, for the workers named for it, ours."""
    package, _, framework = worker.split(",")[0].partition(" ")
    if package == "d2l":
        # The book's package imports what it has for images.
        for name in ("torchvision", "torchvision.transforms"):
            sys.modules.setdefault(name, types.ModuleType(name))
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore
        # What mxnet 1.9.1 needs of an older NumPy.
        vars(np).setdefault("bool", bool)
        vars(np).setdefault("int", int)
    return importlib.import_module(f"{package}.{framework}")


def d2l_torch_worker(args: argparse.Namespace, pairs: Pairs) -> Worker:
    """The chapter's PyTorch tab."""
    import torch

    from bertnli.bert.config import PRESETS

    d2l = _import_d2l(args.worker)
    bert = d2l.BERTModel(VOCAB_SIZE, **PRESETS[args.size], dropout=0.1)

    class BERTClassifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.hidden = bert.encoder, bert.hidden
            self.output = torch.nn.LazyLinear(NUM_LABELS)

        def forward(self, inputs: Any) -> Any:
            encoded = self.encoder(*inputs)
            return self.output(self.hidden(encoded[:, 0, :]))

    net = BERTClassifier()

    def tensors(rows: np.ndarray) -> tuple[list[Any], Any]:
        *inputs, labels = map(torch.from_numpy, pairs.padded(rows, MAX_LEN))
        return inputs, labels

    net(tensors(np.arange(2))[0])
    trainer = torch.optim.Adam(net.parameters(), lr=1e-4)
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    devices = [torch.device("cpu")]

    def train(rows: np.ndarray) -> float:
        parts = [tensors(part) for part in batches(rows, args.batch_size)]
        start = time.perf_counter()
        for inputs, labels in parts:
            d2l.train_batch_ch13(net, inputs, labels, loss, trainer, devices)
        return time.perf_counter() - start

    def evaluate(rows: np.ndarray) -> float:
        parts = [tensors(part) for part in batches(rows, args.batch_size)]
        start = time.perf_counter()
        d2l.evaluate_accuracy_gpu(net, parts)
        return time.perf_counter() - start

    return train, evaluate


def d2l_mxnet_worker(args: argparse.Namespace, pairs: Pairs) -> Worker:
    """The chapter's MXNet tab; MXNet takes the threads that it takes by itself."""
    from bertnli.bert.config import PRESETS

    d2l = _import_d2l(args.worker)
    import mxnet as mx
    from mxnet import gluon, npx

    npx.set_np()
    bert = d2l.BERTModel(VOCAB_SIZE, **PRESETS[args.size], dropout=0.1)
    bert.initialize()

    class BERTClassifier(gluon.nn.Block):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.hidden = bert.encoder, bert.hidden
            self.output = gluon.nn.Dense(NUM_LABELS)

        def forward(self, inputs: Any) -> Any:
            encoded = self.encoder(*inputs)
            return self.output(self.hidden(encoded[:, 0, :]))

    net = BERTClassifier()
    net.output.initialize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-4})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    devices = [mx.cpu()]

    def split(features: Any, labels: Any, devices: Any) -> tuple[list[Any], list[Any]]:
        return [features], [labels]

    def tensors(rows: np.ndarray) -> tuple[tuple[Any, ...], Any]:
        ids, segments, lengths, labels = pairs.padded(rows, MAX_LEN)
        inputs = (ids, segments, lengths.astype(np.float32))
        return tuple(mx.np.array(a, dtype=a.dtype) for a in inputs), mx.np.array(labels)

    def train(rows: np.ndarray) -> float:
        parts = [tensors(part) for part in batches(rows, args.batch_size)]
        start = time.perf_counter()
        for features, labels in parts:
            d2l.train_batch_ch13(net, features, labels, loss, trainer, devices, split)
        mx.nd.waitall()
        return time.perf_counter() - start

    def evaluate(rows: np.ndarray) -> float:
        parts = [tensors(part) for part in batches(rows, args.batch_size)]
        start = time.perf_counter()
        d2l.evaluate_accuracy_gpus(net, parts, split)
        return time.perf_counter() - start

    return train, evaluate


def _hugging_face_model(args: argparse.Namespace) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    from bertnli.bert.config import PRESETS

    sizes = PRESETS[args.size]
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=sizes["num_hiddens"],
        intermediate_size=sizes["ffn_num_hiddens"],
        num_attention_heads=sizes["num_heads"],
        num_hidden_layers=sizes["num_blks"],
        max_position_embeddings=sizes["max_len"],
        num_labels=NUM_LABELS,
    )
    return BertForSequenceClassification(config)


def transformers_worker(args: argparse.Namespace, pairs: Pairs) -> Worker:
    """Hugging Face's Trainer."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_pt_utils import get_length_grouped_indices

    grouped = "grouped" in args.worker
    model = _hugging_face_model(args)
    # The batches of group_by_length, of all pairs; a turn takes some spread over their lengths.
    order = np.array(get_length_grouped_indices(pairs.lengths.tolist(), args.batch_size))
    all_batches = batches(order, args.batch_size)[:-1]
    turn = 0

    def collate(items: list[int]) -> dict[str, Any]:
        width = None if grouped else MAX_LEN
        ids, segments, lengths, labels = pairs.padded(np.array(items), width)
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        arrays = {
            "input_ids": ids,
            "token_type_ids": segments,
            "attention_mask": mask,
            "labels": labels,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    class Rows(torch.utils.data.Dataset):
        def __init__(self, rows: list[int]) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> int:
            return self.rows[index]

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.start

    clock = Clock()
    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=256 if grouped else args.batch_size,
        num_train_epochs=1,
        learning_rate=1e-4,
        bf16="bf16" in args.worker,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
    )
    trainer = InOrder(model=model, args=settings, data_collator=collate, callbacks=[clock])

    def train(rows: np.ndarray) -> float:
        nonlocal turn
        if grouped:
            count = len(rows) // args.batch_size
            places = (np.arange(count) * len(all_batches) // count + turn) % len(all_batches)
            rows = np.concatenate([all_batches[place] for place in places])
            turn += 1
        trainer.train_dataset = Rows(rows.tolist())
        trainer.train()
        return clock.seconds

    def evaluate(rows: np.ndarray) -> float:
        if grouped:
            rows = rows[np.argsort(-pairs.lengths[rows])]
        start = time.perf_counter()
        trainer.predict(Rows(rows.tolist()))
        return time.perf_counter() - start

    return train, evaluate


def cross_encoder_worker(args: argparse.Namespace, pairs: Pairs) -> Worker:
    """sentence-transformers' CrossEncoder, on words that are tokens."""
    from sentence_transformers import CrossEncoder
    from transformers import BertTokenizerFast

    folder = Path(tempfile.mkdtemp())
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [f"w{i}" for i in range(VOCAB_SIZE - len(special))]
    (folder / "vocab.txt").write_text("\n".join(special + words) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=MAX_LEN).save_pretrained(folder)
    _hugging_face_model(args).save_pretrained(folder)
    model = CrossEncoder(str(folder), device="cpu")

    def evaluate(rows: np.ndarray) -> float:
        texts = []
        for row in rows:
            inner = [
                f"w{i % len(words)}" for i in pairs.ids[pairs.offsets[row] :][: pairs.lengths[row]]
            ]
            cut = int(pairs.premise_lens[row]) + 1
            texts.append((" ".join(inner[1:cut]), " ".join(inner[cut + 1 : -1])))
        start = time.perf_counter()
        model.predict(texts, batch_size=256)
        return time.perf_counter() - start

    return evaluate, evaluate


MAKERS: dict[str, Callable[[argparse.Namespace, Pairs], Worker]] = {
    "d2l torch": d2l_torch_worker,
    "d2l mxnet": d2l_mxnet_worker,
    "bertnli.d2l torch": d2l_torch_worker,
    "bertnli.d2l mxnet": d2l_mxnet_worker,
    "bertnli": bertnli_worker,
    "transformers": transformers_worker,
    "CrossEncoder": cross_encoder_worker,
}


class Process:
    """A worker, as the driver sees it."""

    def __init__(self, name: str, args: argparse.Namespace, data: str) -> None:
        self.name = name
        environment = dict(os.environ, TOKENIZERS_PARALLELISM="true")
        if name.endswith("all cores"):
            environment["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        command = [sys.executable, __file__, "--worker", name, "--data", data, "--size", args.size]
        self.process = subprocess.Popen(
            [*command, "--batch-size", str(args.batch_size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.log: list[str] = []
        threading.Thread(target=self._drain, daemon=True).start()
        self._answer()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise SystemExit(f"{self.name} failed:\n{''.join(self.log[-20:])}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, what: str, rows: np.ndarray) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"what": what, "rows": rows.tolist()}) + "\n")
        self.process.stdin.flush()
        return self._answer()


def encode(path: str, folder: str) -> str:
    """Return a file of the data's ids."""
    if path.endswith(".npz"):
        return path
    import bertnli
    from bertnli.data.dataset import PairDataset, build_vocab

    corpus = bertnli.read(path)
    dataset = PairDataset(corpus, MAX_LEN, build_vocab(corpus, 2), verbose=False)
    out = str(Path(folder) / "ids.npz")
    np.savez(
        out,
        ids=dataset.token_ids,
        offsets=dataset.offsets,
        premise_lens=dataset.premise_lens,
        labels=dataset.labels,
    )
    return out


def drive(args: argparse.Namespace) -> None:
    """Run the peers in turn, and print and write what they took."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = encode(args.data, folder)
        num_pairs = len(Pairs(data).labels)
        order = np.random.default_rng(0).permutation(num_pairs)
        names = [name for name in PEERS if args.only in name]
        workers = []
        for name in names:
            workers.append(Process(name, args, data))
            results[name] = {"train": [], "evaluate": [], "memory_mb": 0.0}
        for turn in range(args.rounds + 1):
            for worker in workers[turn % len(workers) :] + workers[: turn % len(workers)]:
                result, counts = results[worker.name], PEERS[worker.name]
                for what, count in zip(("train", "evaluate"), counts, strict=True):
                    if not count:
                        continue
                    count = 1 if turn == 0 else count
                    rows = np.roll(order, -turn * 12 * args.batch_size)[: count * args.batch_size]
                    answer = worker.ask(what, rows)
                    if turn:
                        result[what].append(answer["pairs"] / answer["seconds"])
                    if what == "train":
                        result["memory_mb"] = answer["memory_mb"]
                print(f"round {turn}: {worker.name} {result}", file=sys.stderr, flush=True)
        for worker in workers:
            worker.process.kill()
    report(args, results)


def report(args: argparse.Namespace, results: dict[str, dict[str, Any]]) -> None:
    """Print the table, write the JSON."""
    print(
        f"{args.size}, batch {args.batch_size}, median of {args.rounds} rounds (lowest-highest)\n"
    )
    print("| | train, pairs/s | evaluate, pairs/s | peak memory in training, MB |")
    print("|---|---|---|---|")
    for name, result in results.items():
        cells = [_cell(result[what]) for what in ("train", "evaluate")]
        memory = f"{result['memory_mb']:,.0f}" if result["train"] else ""
        print(f"| {name} | {' | '.join(cells)} | {memory} |")
    ratios = _ratios(results)
    if ratios:
        print("\n| ratio, median of the rounds | train | evaluate |\n|---|---|---|")
        for name, (train, evaluate) in ratios.items():
            print(f"| {name} | {train} | {evaluate} |")
    if args.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        settings = {"size": args.size, "batch_size": args.batch_size, "rounds": args.rounds}
        result = {**settings, **machine, "results": results, "ratios": ratios}
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def _ratios(results: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Compare rounds with the same rounds."""
    result = {}
    for ours in [name for name in results if name.startswith("bertnli")]:
        for theirs in results:
            backends = {"mxnet", "torch"} - {word for word in ("mxnet", "torch") if word in ours}
            other_framework = any(word in theirs for word in backends)
            both_ours = theirs.startswith("bertnli")
            if theirs == ours or (other_framework and not both_ours):
                continue
            if "mxnet" in ours and not ("mxnet" in theirs or both_ours):
                continue
            cells = []
            for what in ("train", "evaluate"):
                rounds = zip(results[ours][what], results[theirs][what], strict=False)
                values = [our / their for our, their in rounds]
                cells.append(f"{statistics.median(values):.2f}" if values else "")
            result[f"{ours} / {theirs}"] = (cells[0], cells[1])
    return result


if __name__ == "__main__":
    main()
