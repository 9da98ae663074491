"""Small files that would take much, and files that are none: an error of ours, within limits.

The files are read in a process without a framework, which may not get 200 MB of memory more than it
has before each, nor use a second of the processor.
"""

import gzip
import json
import os
import shutil
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import processes
import pytest
import torch
from hostile_files import CASES, HEAD, KINDS, PLACES

from bertnli.bert.config import BERTConfig
from bertnli.formats.convert import FORMATS

WORKER = Path(__file__).parent / "hostile_files_worker.py"
FIXTURES = Path(__file__).parents[1] / "fixtures"
CLASSES = ("entailment", "contradiction", "neutral")
SIZES = (12, 4, 6, 2, 1, 0.1, 8)
ROWS = [("neutral", "a dog's life .", "b"), ("entailment", "c", "d e")]
#: Mutations of each file, here and in the long run.
FEW, MANY = 1, 5000


def write_corpora(home):
    """Write the same two pairs in each format."""
    (home / "corpus").mkdir()
    table = HEAD + "".join("\t".join(row) + "\n" for row in ROWS)
    names = HEAD.split()
    lines = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS)
    parsed = table.replace("sentence1", "sentence1_binary_parse")
    parsed = parsed.replace("sentence2", "sentence2_binary_parse")
    texts = {"tsv": table, "csv": table.replace("\t", ","), "jsonl": lines, "txt": parsed}
    for ending, text in texts.items():
        for suffix, content in (
            (ending, text.encode()),
            (f"{ending}.gz", gzip.compress(text.encode())),
        ):
            (home / "corpus" / f"a.{suffix}").write_bytes(content)
            (home / f"snli.{suffix}").mkdir()
            (home / f"snli.{suffix}" / f"snli_1.0_dev.{suffix}").write_bytes(content)


@pytest.fixture
def home(tmp_path, make_checkpoint):
    """Whole files of each kind, in a folder of their own each."""
    modern = make_checkpoint(BERTConfig(*SIZES, "gelu", True, 1e-12), CLASSES)
    FORMATS["huggingface"](modern, tmp_path / "hf")
    for other, removed in (("hf, pieces", "tokenizer.json"), ("hf, pickled", "model.safetensors")):
        shutil.copytree(tmp_path / "hf", tmp_path / other)
        (tmp_path / other / removed).unlink()
    FORMATS["bertnli"](make_checkpoint(BERTConfig(*SIZES), CLASSES), tmp_path / "ours")
    for framework, folder in (("mxnet", "params"), ("torch", "torch")):
        shutil.copytree(FIXTURES / framework / "bert.tiny", tmp_path / folder)
    shutil.copytree(tmp_path / "torch", tmp_path / "torch, legacy")
    state = torch.load(tmp_path / "torch" / "pretrained.params")
    legacy = tmp_path / "torch, legacy" / "pretrained.params"
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    (tmp_path / "gluonnlp").mkdir()
    for pattern, name in (("bert_2*.params", "bert_2_32_4_tiny.params"), ("*.vocab", "tiny.vocab")):
        shutil.copy(next((FIXTURES / "gluonnlp").glob(pattern)), tmp_path / "gluonnlp" / name)
    write_corpora(tmp_path)
    for name, text in (("text/a.txt", "A dog. It barks.\n\nA cat.\n"), ("run/metrics.jsonl", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "archive").mkdir()
    with zipfile.ZipFile(tmp_path / "archive" / "a.zip", "w") as zipped:
        zipped.writestr("a.txt", "one")
    return tmp_path


def run_cases(home, first, last, shards=1):
    """Have the cases read, and so many mutations of each, by as many processes as there are shards.

    Each has a copy of the files, since it puts its own into their places.
    """
    number = len(PLACES) * len(KINDS) + sum(map(len, CASES.values()))
    with ExitStack() as stack:
        workers = []
        for shard in range(shards):
            own = home.with_name(f"{home.name}-{shard}")
            shutil.copytree(home, own)
            words = [str(own), *map(str, (first, last, shard, shards))]
            env = {**os.environ, "BERTNLI_CACHE": str(own / "cache"), "OMP_NUM_THREADS": "1"}
            worker = processes.Process(
                [sys.executable, str(WORKER), *words], env, stdout=PIPE, stderr=PIPE
            )
            workers.append(stack.enter_context(worker))
        for worker in workers:
            out, err = worker.finish(limit=3600.0 * (1 + last - first))  # it ends what hangs
            assert worker.returncode == 0, out[-2000:] + err[-4000:]
            told = json.loads(out.splitlines()[-1])
            outcomes = told["cases"]
            wrong = {case: s for case, s in outcomes.items() if s not in ("read", "refused")}
            assert not wrong, err[-8000:]
            assert len(outcomes) == number and told["mutations"] >= last - first
            print(f"{told['mutations']} mutations; the slowest took {told['slowest']:.2f} s")
            # What is no file is read nowhere, but where it is one that need not be there.
            irregular = {
                f"{place}, {name}: {kind}"
                for place, name in PLACES
                for kind in KINDS
                if kind != "empty" and (place, kind) != ("archive", "folder")
            }
            assert not [case for case in irregular if outcomes[case] != "refused"]


def test_hostile_files_and_some_mutations(home):
    run_cases(home, 0, FEW)


@pytest.mark.long
def test_hostile_files_and_many_mutations(home):
    run_cases(home, 0, MANY, os.cpu_count() or 1)
