"""Time the way from a file to token ids, at the size of SNLI's train set, in several formats.

    python benchmarks/encode.py --source snli_1.0_dev.txt.gz --json result.json

The file is made of the source's rows: 550,152 rows in 14 columns, of which 549,367 have a gold
label, each premise three times, every hypothesis different. In each sentence some words are
exchanged for others of the source, the same in its parses and its text; one premise in 500 gets a
word with an accent. Each figure is the median of fresh processes; imports and reading the
vocabulary do not count, and the file is in the operating system's cache, as it is after it was
unpacked.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from bertnli.bert.labels import LABELS
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.read import read
from bertnli.text.tokenize import treebank_tokenize
from bertnli.text.vocab import Vocab

ROWS, LABELLED = 550_152, 549_367
NAME = "snli_1.0_train.txt"
#: The plain loop is timed on one row in so many.
PART = 10
MAX_LEN, VOCAB_SIZE = 128, 60_000
WAYS = {
    "uncached": "SNLI's file, the cache is written",
    "cached": "from the cache, whose key is the file's content",
    "multinli": "MultiNLI's columns",
    "csv": "CSV of sentences as people write them",
    "parquet": "parquet of these, with names of classes",
    "plain": f"plain loop, {PART} x the time of 1/{PART} of the rows",
}
#: The file of each way, beside which nothing is kept but for the first two.
FILES = {
    "multinli": "multinli_1.0_train.txt",
    "csv": "pairs.csv",
    "parquet": "pairs.parquet",
}
HEADER = [
    *("gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse"),
    *("sentence2_parse", "sentence1", "sentence2", "captionID", "pairID"),
    *(f"label{i}" for i in range(1, 6)),
]
WORD = re.compile(r"\b[a-z]{3,}\b")  # parts of speech and brackets are in capitals


class Sentence(NamedTuple):
    """A sentence in the three forms that SNLI's columns have."""

    binary_parse: str
    parse: str
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source",
        type=Path,
        help="a file of SNLI in 14 columns, .txt or .txt.gz (default: the sample corpus)",
    )
    parser.add_argument("--folder", type=Path, help="where to make the file (default: temporary)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)  # what a fresh process does
    arguments = parser.parse_args()
    if arguments.measure:
        way, folder = arguments.measure
        print(json.dumps(measure(way, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "vocab.json").is_file():
            make_files(folder, arguments.source)
        report(folder, arguments.repeats, arguments.json)


def report(folder: Path, repeats: int, path: Path | None) -> None:
    """Measure each way in processes of its own, and print the table."""
    runs: dict[str, list[dict]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            command = [sys.executable, __file__, "--measure", way, str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs[way].append(json.loads(done.stdout))
    megabytes = (folder / NAME).stat().st_size / 1e6
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{ROWS:,} rows, {LABELLED:,} with a label, {megabytes:.0f} MB; {machine}")
    print(f"{'':44}{'seconds':>8}{'extra memory, MB':>19}")
    for way, what in WAYS.items():
        scale = PART if way == "plain" else 1
        seconds = scale * statistics.median(run["seconds"] for run in runs[way])
        extra = [run["extra_mb"] for run in runs[way]]
        known = way != "plain" and None not in extra
        print(f"{what:44}{seconds:8.2f}{f'{statistics.median(extra):19.0f}' if known else ''}")
    if path:
        result = {"machine": machine, "file_mb": megabytes, "pairs": LABELLED, "runs": runs}
        path.write_text(json.dumps(result, indent=2) + "\n")


def measure(way: str, folder: Path) -> dict[str, float | None]:
    """Return the seconds one way takes in this process, and the memory on top of what it has."""
    with contextlib.suppress(ImportError):
        import pyarrow.compute
        import pyarrow.csv  # noqa: F401
    vocab = Vocab.load(folder / "vocab.json")
    if way == "uncached":
        shutil.rmtree(folder / ".bertnli", ignore_errors=True)
    before, start = memory("VmRSS"), time.perf_counter()
    if way in FILES:
        data = PairDataset.read(
            folder / "others" / FILES[way], None, MAX_LEN, vocab, cache=False, verbose=False
        )
        assert len(data) == LABELLED
    elif way == "plain":
        data = PairDataset(read(folder / "part", "train"), MAX_LEN, vocab, verbose=False)
    else:
        data = PairDataset.read(folder, "train", MAX_LEN, vocab, verbose=False)
        assert len(data) == LABELLED
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    return {
        "seconds": seconds,
        "extra_mb": None if before is None or peak is None else peak - before,
        "tokens": len(data.token_ids),
    }


def memory(name: str) -> float | None:
    """Return a figure of this process's memory in MB; None where the system does not tell it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6


def make_files(folder: Path, source: Path | None) -> None:
    """Write the big file, a part of it for the plain loop, and a vocabulary."""
    (folder / "part").mkdir(parents=True, exist_ok=True)
    groups = sample_groups() if source is None else file_groups(source)
    with open(folder / NAME, "w", encoding="utf-8") as file:
        file.write("\t".join(HEADER) + "\n")
        file.writelines("\t".join(row) + "\n" for row in big_rows(groups))
    with open(folder / NAME, "rb") as file, open(folder / "part" / NAME, "wb") as part:
        part.writelines(line for i, line in enumerate(file) if i % PART == 0)
    make_others(folder / "others", folder / NAME)
    result = build_vocab(read(folder / "part", "train"), 2).idx_to_token
    others = (f"word{i}" for i in range(VOCAB_SIZE - len(result)))
    Vocab.from_list([*result, *others]).save(folder / "vocab.json")


def make_others(folder: Path, snli: Path) -> None:
    """Write the same pairs as MultiNLI, as CSV and as parquet."""
    import pyarrow.csv
    import pyarrow.parquet

    folder.mkdir(exist_ok=True)
    tabs = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
    table = pyarrow.csv.read_csv(snli, parse_options=tabs)
    with open(snli, encoding="utf-8") as rows, open(folder / FILES["multinli"], "w") as file:
        file.write(next(rows).replace("captionID", "promptID").rstrip("\n") + "\tgenre\n")
        file.writelines(f"{row.rstrip()}\tfiction\n" for row in rows)
    texts = table.select(["sentence1", "sentence2", "gold_label"])
    texts = texts.rename_columns(["premise", "hypothesis", "label"])
    pyarrow.csv.write_csv(texts, folder / FILES["csv"])
    labels = [LABELS.index(n) if n in LABELS else -1 for n in texts["label"].to_pylist()]
    features = {"label": {"names": LABELS, "_type": "ClassLabel"}}
    hub = json.dumps({"info": {"features": features}})
    texts = texts.set_column(2, "label", pyarrow.array(labels))
    texts = texts.replace_schema_metadata({"huggingface": hub})
    pyarrow.parquet.write_table(texts, folder / FILES["parquet"])


def big_rows(groups: list[tuple[Sentence, list[Sentence]]]) -> Iterator[list[str]]:
    """Yield the rows: each premise with three hypotheses."""
    rng = random.Random(0)
    pool = [word for premise, others in groups for word in WORD.findall(premise.text)]
    pool += [word for _, others in groups for other in others for word in WORD.findall(other.text)]
    seen: set[str] = set()
    number = 0
    for group, (source, hypotheses) in zip(range(ROWS // 3), cycle(groups)):
        premise = exchanged(source, rng, pool, "café" if group % 500 == 0 else None)
        for i in range(3):
            hypothesis = exchanged(hypotheses[i % len(hypotheses)], rng, pool)
            while hypothesis.text in seen:
                hypothesis = exchanged(hypothesis, rng, pool)
            seen.add(hypothesis.text)
            no_label = number % 700 == 0 and number // 700 < ROWS - LABELLED
            label = "-" if no_label else LABELS[i]
            forms = [form for pair in zip(premise, hypothesis, strict=True) for form in pair]
            caption = f"{group:010}.jpg#{group % 5}"
            yield [label, *forms, caption, f"{caption}r{i}", label, *[LABELS[i]] * 4]
            number += 1


def exchanged(
    sentence: Sentence, rng: random.Random, pool: list[str], new: str | None = None
) -> Sentence:
    """Return a sentence with up to three of its words exchanged, in all its forms."""
    words = sorted(set(WORD.findall(sentence.text)))
    if not words:  # nothing to exchange: a word more
        word = rng.choice(pool)
        return Sentence(
            f"( {word} {sentence.binary_parse} )",
            f"(ROOT (X {word}) {sentence.parse})",
            f"{word} {sentence.text}",
        )
    others = {word: rng.choice(pool) for word in rng.sample(words, min(3, len(words)))}
    if new is not None:
        others[next(iter(others))] = new
    pattern = re.compile(rf"\b(?:{'|'.join(others)})\b")
    return Sentence(*(pattern.sub(lambda match: others[match[0]], form) for form in sentence))


def file_groups(path: Path) -> list[tuple[Sentence, list[Sentence]]]:
    """Return each premise of a file in 14 columns, with its hypotheses."""
    groups: dict[Sentence, list[Sentence]] = {}
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        next(file)
        for line in file:
            fields = line.rstrip("\n").split("\t")
            premise, hypothesis = Sentence(*fields[1:7:2]), Sentence(*fields[2:7:2])
            groups.setdefault(premise, []).append(hypothesis)
    return list(groups.items())


def sample_groups() -> list[tuple[Sentence, list[Sentence]]]:
    """Return the sample corpus's premises and hypotheses, with parses that branch to the right."""
    groups: dict[Sentence, list[Sentence]] = {}
    corpus = read("sample", "train")
    for premise, hypothesis in zip(corpus.premises, corpus.hypotheses, strict=True):
        groups.setdefault(parsed(premise), []).append(parsed(hypothesis))
    return list(groups.items())


def parsed(text: str) -> Sentence:
    """Return a sentence with parses that branch to the right."""
    words = treebank_tokenize(text)
    binary = words[-1]
    for word in reversed(words[:-1]):
        binary = f"( {word} {binary} )"
    parse = " ".join(f"(NP (NN {word}))" for word in words)
    return Sentence(binary, f"(ROOT (S {parse}))", text)


if __name__ == "__main__":
    main()
