"""Train the same BERT from scratch on both backends and compare them on the dev set, per epoch.

    python benchmarks/from_scratch.py --train snli_train.tsv --dev snli_1.0/ --json result.json

Both start from the same values and see the same pairs in the same order; dropout differs.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import bertnli
from bertnli.bert.config import PRESETS, BERTConfig
from bertnli.data.dataset import build_vocab


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="TSV, CSV or JSONL with named columns")
    parser.add_argument("--dev", required=True, help="such a file, or a folder of SNLI's files")
    parser.add_argument("--backends", default="torch,mxnet")
    parser.add_argument("--model", default="bert.small", choices=sorted(PRESETS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--warmup", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--min-freq", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()

    train = bertnli.read(arguments.train)
    dev = bertnli.read(arguments.dev, "dev" if Path(arguments.dev).is_dir() else None)
    vocab = build_vocab(train, arguments.min_freq)
    sizes = BERTConfig(len(vocab), dropout=arguments.dropout, **PRESETS[arguments.model])
    print(f"{len(train.labels)} pairs, {len(dev.labels)} dev pairs, {len(vocab)} tokens; {sizes}")
    histories = {}
    for name in arguments.backends.split(","):
        print(name)
        nli = bertnli.get_backend(name)
        bert = nli.BERTModel(**sizes.to_dict(), vocab=vocab, seed=arguments.seed)
        trainer = nli.Trainer(
            nli.BERTClassifier(bert, seed=arguments.seed),
            lr=arguments.lr,
            schedule="linear",
            warmup=arguments.warmup,
            seed=arguments.seed,
        )
        train_set, dev_set = (
            nli.SNLIBERTDataset(corpus, 128, vocab, verbose=False) for corpus in (train, dev)
        )
        histories[name] = trainer.fit(
            train_set,
            dev_set,
            arguments.epochs,
            arguments.batch_size,
            on_epoch=lambda record: print(record, flush=True),
        )
    rows = zip(*(history.epochs for history in histories.values()), strict=True)
    print(f"\nepoch  {'  '.join(f'{name:>7}' for name in histories)}  largest difference, points")
    for records in rows:
        scores = [100 * record.dev_accuracy for record in records]
        cells = "  ".join(f"{score:>7.2f}" for score in scores)
        print(f"{records[0].epoch:>5}  {cells}  {max(scores) - min(scores):.2f}")
    if arguments.json:
        result = {
            "machine": platform.processor() or platform.machine(),
            "arguments": {key: str(value) for key, value in vars(arguments).items()},
            "epochs": {
                name: [asdict(record) for record in history.epochs]
                for name, history in histories.items()
            },
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
