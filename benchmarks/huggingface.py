"""A Hugging Face folder on both backends beside transformers: the same numbers, and how soon.

    python benchmarks/huggingface.py --model FOLDER --data snli_dev.tsv --json result.json

Encoded tokens and pooled vectors of pairs are compared with those of transformers' `BertModel`.
Then processes that open the folder and compute one pair take turns, each from its cold start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import bertnli

#: What a process does from its start to the first result.
COLD = {
    "transformers": """
import torch
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained({model!r}).eval()
tokenizer = AutoTokenizer.from_pretrained({model!r})
with torch.no_grad():
    model(**tokenizer([{a!r}], [{b!r}], return_tensors="pt")).pooler_output.numpy()
""",
    "bertnli torch": """
import bertnli
nli = bertnli.get_backend("torch")
bert, _ = nli.load_pretrained_model({model!r}, devices="cpu")
nli.BERTClassifier(bert).predict([({a!r}, {b!r})])
""",
    "bertnli mxnet": """
import bertnli
nli = bertnli.get_backend("mxnet")
bert, _ = nli.load_pretrained_model({model!r}, devices="cpu")
nli.BERTClassifier(bert).predict([({a!r}, {b!r})])
""",
}


def main() -> None:
    """Compare, time, and print and write what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a Hugging Face folder of a BERT")
    parser.add_argument("--data", required=True, help="pairs: a table, or a folder of SNLI's files")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    result = {"agreement": agreement(args), "cold_seconds": cold(args)}
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def read(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the first pairs, as text."""
    corpus = bertnli.read(args.data, "dev" if Path(args.data).is_dir() else None)
    return list(zip(*corpus[:2], strict=True))[: args.pairs]


def agreement(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return how far each backend's outputs are from transformers', at most."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModel.from_pretrained(args.model).eval()
    inputs: Any = tokenizer(
        *map(list, zip(*read(args), strict=True)), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs)
    valid = inputs["attention_mask"].numpy().astype(bool)
    arrays = [inputs["input_ids"].numpy(), inputs["token_type_ids"].numpy(), valid.sum(1)]
    print("| backend | last hidden state | pooled |\n|---|---|---|")
    rows = {}
    for name in ("torch", "mxnet"):
        nli = bertnli.get_backend(name)
        bert, _ = nli.load_pretrained_model(args.model, dropout=0.0, devices="cpu")
        hidden, pooled = outputs(name, bert, arrays)
        rows[name] = {
            "hidden": float(np.abs(hidden - expected.last_hidden_state.numpy())[valid].max()),
            "pooled": float(np.abs(pooled - expected.pooler_output.numpy()).max()),
        }
        print(f"| {name} | {rows[name]['hidden']:.1e} | {rows[name]['pooled']:.1e} |")
    return rows


def outputs(name: str, bert: Any, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the encoded tokens (B, T, H) and the pooled vectors (B, H)."""
    if name == "torch":
        import torch

        bert.eval()
        with torch.no_grad():
            encoded = bert.encoder(*map(torch.from_numpy, arrays))
            return encoded.numpy(), bert.hidden(encoded[:, 0]).numpy()
    from bertnli.backends.mxnet._framework import mx

    with mx.util.np_shape(True), mx.util.np_array(True):
        encoded = bert.encoder(*(mx.np.array(array, dtype="int32") for array in arrays))
        return encoded.asnumpy(), bert.hidden(encoded[:, 0]).asnumpy()


def cold(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds that each process took from its start to its end, in turn."""
    a, b = read(args)[0]
    seconds: dict[str, list[float]] = {name: [] for name in COLD}
    for turn in range(args.rounds + 1):
        for name, code in COLD.items():
            start = time.perf_counter()
            command = [sys.executable, "-c", code.format(model=args.model, a=a, b=b)]
            subprocess.run(command, check=True, capture_output=True)
            if turn:  # the first reads the files from the disk
                seconds[name].append(time.perf_counter() - start)
    print("\n| cold start to the first result | seconds |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) |")
    return seconds


if __name__ == "__main__":
    main()
