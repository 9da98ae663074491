"""Pretrain bert.small's sizes on SNLI's text and captions, and see what that is worth.

Three steps, each with bertnli's commands: masked words and next sentences, on documents of the
captions of a photograph and of pairs; fine-tuning on SNLI's pairs, several seeds; the same from
start values, with nothing before it. With --teacher also what a larger BERT's answers are worth: it
is fine-tuned on nine tenths of SNLI's pairs, and answers new pairs of their sentences and of the
captions; the pretrained model learns its answers, and is then fine-tuned on the labels as well.

usage:
  python benchmarks/bert_small.py --train snli_train.tsv --captions captions.tsv \\
      --output runs/bert.small [--dev snli_dev.tsv] [--teacher path/to/all-MiniLM-L6-v2]

Without --dev the score is of the other tenth, whose photographs no other pair has; it is left out
of fine-tuning, though its sentences are in the pretraining text. With --dev or without, the teacher
is neither fine-tuned on that tenth nor asked about its pairs.

Each step's result stays in --output, and is not made again: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bert_mini import TEACHER, command, new_pairs

from bertnli.data.corpus import Corpus

SEED = 0
PRETRAINING = {
    "min-freq": 8,  # of a text that has each caption twice
    "mask-rate": 0.2,
    "max-len": 64,
    "dropout": 0.05,
    "epochs": 8,
    "batch-size": 224,
    "lr": 1e-3,
    "warmup": 0.04,
    "recipe": "best",
}
FINE_TUNING = {
    "epochs": 4,
    "batch-size": 64,
    "lr": 3e-4,
    "recipe": "best",
    "schedule": "constant",
    "average": 0.6,
}
TAUGHT = {"epochs": 6, "batch-size": 128, "lr": 5e-4, "recipe": "best"}
#: For each pair of a hypothesis and one of its photograph's captions.
NEW_PAIRS = 1.0
FINE_TUNING_TAUGHT = {"epochs": 2, "batch-size": 64, "lr": 1e-4, "recipe": "best"}
FROM_SCRATCH = {**FINE_TUNING, "model": "bert.small", "min-freq": 4, "lr": 5e-4}
#: Photographs of every so many are held out.
HELD_OUT = 10


class Pair(NamedTuple):
    """A row of SNLI's train set, as it is written."""

    gold_label: str
    premise: str
    hypothesis: str
    photograph: str


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--train", type=Path, required=True, help="a TSV with SNLI's columns, captionID too"
    )
    parser.add_argument(
        "--captions",
        type=Path,
        required=True,
        help="a TSV: captionID, caption, and 1 for a premise of SNLI's dev or test set",
    )
    parser.add_argument("--dev", type=Path, help="with train's columns; fine-tune on all pairs")
    parser.add_argument(
        "--teacher", type=Path, help="a Hugging Face folder: learn its answers, too"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    out = args.output
    out.mkdir(parents=True, exist_ok=True)
    pairs, captions = read_train(args.train), read_captions(args.captions)
    text, pretraining = out / "text.txt", out / "pretraining"
    if not text.is_file():
        write(text, "\n\n".join("\n".join(d) for d in documents(captions, pairs)))
    task = ["pretrain", "--text", text, "--model", "bert.small", "--tasks", "mlm,nsp"]
    run(pretraining, task, PRETRAINING)
    nine, tenth = out / "train.tsv", out / "held-out.tsv"
    kept = split(pairs, nine, tenth)
    runs = {"pretrained": (["--pretrained", pretraining / "last"], FINE_TUNING)}
    if args.teacher is not None:
        asked = out / "pairs.tsv"
        if not asked.is_file():
            write(asked, table(("sentence1", "sentence2"), questions(captions, kept)))
        taught = teach(args, pretraining / "last", asked, ["--train", nine, "--dev", tenth])
        runs["taught"] = (["--pretrained", taught, "--new-head"], FINE_TUNING_TAUGHT)
    runs["from-scratch"] = ([], FROM_SCRATCH)
    train, dev, place = args.train, args.dev, "dev"
    if dev is None:
        train, dev, place = nine, tenth, "held-out"
    data = ["train", "--train", train, "--dev", dev, "--skip-bad-rows"]
    scores = {}
    for seed in range(args.seeds):
        for name, (start, settings) in runs.items():
            where = out / f"{place}-{name}-{seed}"
            scores[f"{name}, seed {seed}"] = run(where, [*data, *start], settings, seed)
    print(json.dumps(scores, indent=2))


def read_train(path: Path) -> list[Pair]:
    """Return the pairs of a TSV with SNLI's columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Pair(
                row["gold_label"],
                row["sentence1"].strip(),
                row["sentence2"].strip(),
                row["captionID"].partition("#")[0],
            )
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def read_captions(path: Path) -> dict[str, list[str]]:
    """Return the captions of each photograph, without those that are premises of dev or test."""
    result = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(table)
        for caption_id, caption, flag in table:
            if flag == "0" and caption.strip():
                result[caption_id.partition("#")[0]].append(caption.strip())
    return result


def documents(captions: dict[str, list[str]], pairs: Sequence[Pair]) -> list[list[str]]:
    """Return the documents of the pretraining text, in any order.

    They are each photograph's captions, in their order and in another; each premise and its
    hypothesis; and each hypothesis after another caption of the same photograph, if there is one.
    """
    rng = random.Random(SEED)
    result = []
    for again in (False, True):
        for own in captions.values():
            ordered = list(own)
            if again:
                rng.shuffle(ordered)
            result.append(ordered)
        for pair in pairs:
            first = pair.premise
            others = [c for c in captions.get(pair.photograph, ()) if c != first]
            if again and others:
                first = rng.choice(others)
            result.append([sentence for sentence in (first, pair.hypothesis) if sentence])
    rng.shuffle(result)
    return result


def split(pairs: Sequence[Pair], train: Path, held_out: Path) -> list[Pair]:
    """Write the pairs into two files, no photograph in both, and return those of the first."""
    photographs = sorted({pair.photograph for pair in pairs})
    random.Random(SEED).shuffle(photographs)
    held = {*photographs[::HELD_OUT]}
    kept = [pair for pair in pairs if pair.photograph not in held]
    rest = [pair for pair in pairs if pair.photograph in held]
    for path, wanted in ((train, kept), (held_out, rest)):
        rows = (pair[:3] for pair in wanted)
        write(path, table(("gold_label", "sentence1", "sentence2"), rows))
    return kept


def teach(args: argparse.Namespace, start: Path, asked: Path, labelled: Sequence[object]) -> Path:
    """Return the folder of a model that has learned a larger BERT's answers to pairs of a file."""
    teacher, answers, taught = (
        args.output / name for name in ("teacher", "answers.jsonl", "taught")
    )
    run(teacher, ["train", "--pretrained", args.teacher, *labelled, "--skip-bad-rows"], TEACHER)
    if not answers.is_file():
        task = ["predict", teacher / "last", asked, "--json"]
        command(*task, "--precision", "auto", "--batch-size", 256, stdout=answers)
    columns = ["--premise-column", "premise", "--hypothesis-column", "hypothesis"]
    data = ["--train", answers, "--soft-labels", *columns, "--label-column", "label"]
    run(taught, ["train", "--pretrained", start, *data], TAUGHT)
    return taught / "last"


def questions(captions: dict[str, list[str]], pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Return what a teacher is asked.

    That is each hypothesis with its premise and with the photograph's captions, and new pairs of
    these sentences.
    """
    result: dict[tuple[str, str], None] = {}
    for pair in pairs:
        if pair.premise and pair.hypothesis:
            for premise in (pair.premise, *captions.get(pair.photograph, ())):
                result[premise, pair.hypothesis] = None
    premises, hypotheses = map(list, zip(*result, strict=True))
    corpus = Corpus(premises, hypotheses, [-1] * len(result), tokenized=False)
    return [*result, *new_pairs(corpus, NEW_PAIRS)]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a TSV."""
    return "".join("\t".join(row) + "\n" for row in (columns, *rows))


def write(path: Path, text: str) -> None:
    """Write a file, all of it or nothing."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def run(
    output: Path, task: Sequence[object], settings: dict[str, object], seed: int = SEED
) -> list[float | None]:
    """Run one of bertnli's commands that train, or what is missing of it.

    Returns:
        Dev accuracy after each epoch, in percent; None where there is no dev set.
    """
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    where = ["--output", output, "--precision", "auto", "--seed", seed, "--resume"]
    command(*task, *options, *where)
    with (output / "metrics.jsonl").open(encoding="utf-8") as file:
        result = [json.loads(row)["dev_accuracy"] for row in file]
    return [None if score is None else round(100 * score, 2) for score in result]


if __name__ == "__main__":
    main()
