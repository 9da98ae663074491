"""Make bert.mini, the model that comes with bertnli: pretrained, and fine-tuned, by its commands.

The text is SNLI's train split, or the part of it that is given. Knowledge of words comes from a
larger BERT: the start values of the word embeddings are its word pieces', and what the student is
fine-tuned on are its answers, once it is fine-tuned itself: to SNLI's pairs, and to new pairs made
of their sentences. Its README, beside it, says what came of it.

usage:
  python benchmarks/bert_mini.py --train snli_train.tsv --teacher path/to/all-MiniLM-L6-v2 \\
      --output runs/bert.mini [--dev snli_dev.tsv] [--install]

Each step's result stays in --output, and is not made again: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

import bertnli
from bertnli.bert.config import PRESETS
from bertnli.bert.parameters import bert_shapes, initial_arrays
from bertnli.data.corpus import Corpus
from bertnli.data.text import build_text_vocab, read_text
from bertnli.formats.load import load_pretrained
from bertnli.formats.native import save_native
from bertnli.text.tokenize import BRACKETS, lower_tokens
from bertnli.text.vocab import Vocab

MODEL = "bert.mini"
SEED = 0
#: Words seen less often are left to <unk>.
MIN_FREQ = 6
PRETRAINING = {"epochs": 20, "batch-size": 128, "lr": 1e-3, "schedule": "linear", "warmup": 0.05}
TEACHER = {"epochs": 3, "batch-size": 64, "lr": 1e-4, "recipe": "best"}
STUDENT = {"epochs": 6, "batch-size": 64, "lr": 5e-4, "recipe": "best"}
#: New pairs for each of SNLI's, and the share of the label beside the teacher's answer.
NEW_PAIRS, LABEL_SHARE = 2.0, 0.3
#: How new pairs are made; see `new_pairs`.
KINDS = {"shared word": 0.5, "siblings": 0.3, "reversed": 0.1, "random": 0.1}
TREEBANK = {new: old for old, new in BRACKETS.items()} | {"``": '"', "''": '"'}


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="a TSV with SNLI's columns")
    parser.add_argument("--dev", type=Path, help="the same; nothing is chosen by it")
    parser.add_argument("--teacher", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--install", action="store_true", help="put it into the package")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    corpus = bertnli.read(args.train, on_error="skip")
    pretrained = pretrain(args, corpus)
    taught = teach(args, corpus)
    student = args.output / "student"
    if not (student / "last").is_dir():
        start = ["--pretrained", str(pretrained), "--train", str(taught), "--soft-labels"]
        train(args, student, STUDENT, *start)
    for name, source in (("pretrained", pretrained), ("classifier", student / "last")):
        target = args.output / MODEL / name
        if not target.is_dir():
            target.parent.mkdir(exist_ok=True)
            command("convert", source, target, "--to", "bertnli", "--dtype", "float16")
    if args.dev is not None:
        for checkpoint in (args.output / "teacher" / "last", args.output / MODEL / "classifier"):
            command("evaluate", checkpoint, args.dev, "--skip-bad-rows")
    if args.install:
        home = Path(bertnli.__file__).parent / "models" / MODEL
        shutil.copytree(args.output / MODEL, home, dirs_exist_ok=True)


def command(*words: object, stdout: Path | None = None) -> None:
    """Run one of bertnli's commands."""
    line = [sys.executable, "-m", "bertnli", *map(str, words)]
    print("$ bertnli", *line[3:], flush=True)
    if stdout is None:
        subprocess.run(line, check=True)
        return
    part = stdout.with_suffix(".part")
    with part.open("wb") as file:
        subprocess.run(line, check=True, stdout=file)
    part.rename(stdout)


def train(args: argparse.Namespace, output: Path, settings: dict[str, object], *more: str) -> None:
    """Fine-tune with settings."""
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    where = ["--backend", args.backend, "--precision", "auto", "--seed", str(SEED), "--resume"]
    command("train", "--output", output, *options, *where, *more)


def pretrain(args: argparse.Namespace, corpus: Corpus) -> Path:
    """Return the pretrained model's folder."""
    text, start = args.output / "text.txt", args.output / "start"
    run = args.output / "pretraining"
    if not text.is_file():
        documents: dict[str, list[str]] = {}
        for premise, hypothesis, _ in zip(*corpus, strict=True):
            documents.setdefault(premise, [premise]).append(hypothesis)
        text.write_text("\n\n".join("\n".join(d) for d in documents.values()), encoding="utf-8")
    if not start.is_dir():
        save_start(start, build_text_vocab(read_text(text), MIN_FREQ), args.teacher)
    if not (run / "last").is_dir():
        options = [w for name, value in PRETRAINING.items() for w in (f"--{name}", str(value))]
        where = ["--backend", args.backend, "--precision", "auto", "--seed", SEED, "--resume"]
        start_from = ["--pretrained", start, "--max-len", 64]
        command("pretrain", "--text", text, "--output", run, *start_from, *options, *where)
    return run / "last"


def save_start(folder: Path, vocab: Vocab, teacher: Path) -> None:
    """Write a model whose words are the means of the teacher's word pieces, in fewer dimensions.

    The dimensions are the principal components of the means; all are scaled to the deviation that
    start values have.
    """
    sizes = PRESETS[MODEL]
    config = bertnli.BERTConfig(len(vocab), **sizes)
    large = load_pretrained(teacher)
    table = large.arrays["encoder.token_embedding.weight"].astype(np.float64)
    words = [TREEBANK.get(token, token) for token in vocab.idx_to_token]
    means = np.array([table[ids].mean(0) for ids in large.vocab.ids_of(words, False)])
    centred = means - means.mean(0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    projected = centred @ components[: config.num_hiddens].T
    arrays = initial_arrays(bert_shapes(config), SEED)
    arrays["encoder.token_embedding.weight"] = (0.02 / projected.std() * projected).astype("f4")
    save_native(folder, arrays, config, None, vocab)


def teach(args: argparse.Namespace, corpus: Corpus) -> Path:
    """Return the file of pairs with a teacher's answers."""
    teacher, pairs = args.output / "teacher", args.output / "pairs.tsv"
    answers, taught = args.output / "answers.jsonl", args.output / "taught.jsonl"
    if not (teacher / "last").is_dir():
        columns = ["--train", str(args.train), "--skip-bad-rows"]
        train(args, teacher, TEACHER, "--pretrained", str(args.teacher), *columns)
    if not pairs.is_file():
        made = list(zip(*corpus[:2], strict=True)) + new_pairs(corpus, NEW_PAIRS)
        lines = ["sentence1\tsentence2", *("\t".join(pair) for pair in made)]
        pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not answers.is_file():
        where = ["--backend", args.backend, "--precision", "auto", "--batch-size", 256, "--json"]
        command("predict", teacher, pairs, *where, stdout=answers)
    if not taught.is_file():
        with answers.open(encoding="utf-8") as given, taught.open("w", encoding="utf-8") as file:
            for i, line in enumerate(given):
                file.write(json.dumps(row(json.loads(line), corpus, i)) + "\n")
    return taught


def row(answer: dict, corpus: Corpus, i: int) -> dict[str, object]:
    """Return a line of the student's training set: the teacher's answer, and SNLI's label."""
    probabilities, label = answer["probabilities"], answer["label"]
    if i < len(corpus.labels):
        label = corpus.label_names[corpus.labels[i]]
        probabilities = {
            name: (1 - LABEL_SHARE) * p + LABEL_SHARE * (name == label)
            for name, p in probabilities.items()
        }
    return {
        "sentence1": answer["premise"],
        "sentence2": answer["hypothesis"],
        "gold_label": label,
        "probabilities": probabilities,
    }


def new_pairs(corpus: Corpus, each: float) -> list[tuple[str, str]]:
    """Return new pairs of the corpus' sentences, so many for each of its pairs.

    Of these kinds: a premise with a hypothesis of another that shares a word with it, and rather a
    rare one; two hypotheses of a premise; a hypothesis with its premise; any premise and any
    hypothesis.
    """
    rng = np.random.default_rng(SEED)
    by_premise: dict[str, list[str]] = defaultdict(list)
    for premise, hypothesis, _ in zip(*corpus, strict=True):
        by_premise[premise].append(hypothesis)
    premises = list(by_premise)
    words = [sorted({*tokens}) for tokens in lower_tokens(premises, False)]
    having: dict[str, list[int]] = defaultdict(list)
    for i, tokens in enumerate(words):
        for token in tokens:
            having[token].append(i)
    families = [premise for premise in premises if len(by_premise[premise]) > 1]
    seen = {*zip(*corpus[:2], strict=True)}
    result = []
    kinds = rng.choice(list(KINDS), round(each * len(corpus.labels)), p=[*KINDS.values()])
    for kind in kinds:
        i = int(rng.integers(len(premises)))
        if kind == "siblings":
            own = by_premise[families[int(rng.integers(len(families)))]]
            pair = tuple(own[j] for j in rng.choice(len(own), 2, replace=False))
        elif kind == "reversed":
            pair = (_any(by_premise[premises[i]], rng), premises[i])
        else:
            other = int(rng.integers(len(premises)))
            if kind == "shared word":
                shared = [token for token in words[i] if len(having[token]) > 1]
                if shared:
                    rarity = np.array([len(having[token]) ** -0.5 for token in shared])
                    token = rng.choice(shared, p=rarity / rarity.sum())
                    other = int(rng.choice(having[token]))
            pair = (premises[i], _any(by_premise[premises[other]], rng))
        if pair not in seen:
            seen.add(pair)
            result.append((pair[0], pair[1]))
    return result


def _any(items: list[str], rng: np.random.Generator) -> str:
    return items[int(rng.integers(len(items)))]


if __name__ == "__main__":
    main()
