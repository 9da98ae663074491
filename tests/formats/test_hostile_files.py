"""Small files that would take much, damaged files, and what is no file: read, or an error of ours.

The files are read in a process without a framework, which may not get 200 MB of memory more than it
has before each, nor use two seconds of the processor, nor do anything besides reading.
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
from hostile_files import CASES, FIXTURES, HEAD, KINDS, PLACES, sentencepiece

from bertnli.bert.config import BERTConfig
from bertnli.formats.convert import FORMATS

WORKER = Path(__file__).parent / "hostile_files_worker.py"
CLASSES = ("entailment", "contradiction", "neutral")
SIZES = (12, 4, 6, 2, 1, 0.1, 8)
ROWS = [("neutral", "a dog's life .", "b"), ("entailment", "c", "d e")]


def write_corpora(home):
    """Write the same two pairs in each format."""
    table = HEAD + "".join("\t".join(row) + "\n" for row in ROWS)
    records = [dict(zip(HEAD.split(), row, strict=True)) for row in ROWS]
    texts = {"tsv": table, "csv": table.replace("\t", ",")}
    texts["jsonl"] = "".join(json.dumps(record) + "\n" for record in records)
    parsed = [f"{name}_binary_parse" if name[0] == "s" else name for name in HEAD.split()]
    texts["txt"] = "\t".join(parsed) + table[len(HEAD) - 1 :]
    (home / "corpus").mkdir()
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
    """Write one folder of whole files for each kind of source; return their parent."""
    modern = make_checkpoint(BERTConfig(*SIZES, "gelu", True, 1e-12), CLASSES)
    FORMATS["huggingface"](modern, tmp_path / "hf")
    for other, removed in (("hf, pieces", "tokenizer.json"), ("hf, pickled", "model.safetensors")):
        shutil.copytree(tmp_path / "hf", tmp_path / other)
        (tmp_path / other / removed).unlink()
    shutil.copytree(tmp_path / "hf, pieces", tmp_path / "hf, spm")
    (tmp_path / "hf, spm" / "vocab.txt").unlink()
    (tmp_path / "hf, spm" / "spm.model").write_bytes(sentencepiece("abcdefg"))
    settings = json.dumps({"tokenizer_class": "DebertaV2Tokenizer"})
    (tmp_path / "hf, spm" / "tokenizer_config.json").write_text(settings)
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
    roberta, exported = tmp_path / "roberta", tmp_path / "exported"
    shutil.copytree(
        FIXTURES / "roberta", roberta, ignore=shutil.ignore_patterns("roberta*", "*.npz")
    )
    for pattern, name in (("*.vocab", "tiny.vocab"), ("*bpe_ranks*", "bpe_ranks.json")):
        next(roberta.glob(pattern)).rename(roberta / name)
    shutil.copytree(FIXTURES / "exported", exported)
    shutil.copy(tmp_path / "gluonnlp" / "tiny.vocab", exported)
    symbol = exported / "snli-symbol.json"  # the worker gives two heads
    symbol.write_text(symbol.read_text().replace('"heads": "4"', '"heads": "2"'))
    write_corpora(tmp_path)
    for name, text in (("text/a.txt", "A dog. It barks.\n\nA cat.\n"), ("run/metrics.jsonl", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "archive").mkdir()
    with zipfile.ZipFile(tmp_path / "archive" / "a.zip", "w") as zipped:
        zipped.writestr("a.txt", "one")
    return tmp_path


@pytest.mark.parametrize("count", [1, pytest.param(5000, marks=pytest.mark.long)])
def test_hostile_files(home, count):
    """Have the worker read all cases, and `count` mutations of each."""
    number = len(PLACES) * len(KINDS) + sum(map(len, CASES.values()))
    shards = 1 if count == 1 else os.cpu_count() or 1
    with ExitStack() as stack:
        workers = []
        for shard in range(shards):
            copy = home.with_name(f"{home.name}-{shard}")
            shutil.copytree(home, copy)
            words = [str(copy), *map(str, (count, shard, shards))]
            env = {**os.environ, "BERTNLI_CACHE": str(copy / "cache"), "OMP_NUM_THREADS": "1"}
            worker = processes.Process(
                [sys.executable, str(WORKER), *words], env, stdout=PIPE, stderr=PIPE
            )
            stack.callback(worker.end)
            workers.append(stack.enter_context(worker))
        for worker in workers:
            limit = processes.LIMIT * (2 if count == 1 else 8)
            out, err = worker.finish(limit=limit)  # it ends what hangs
            assert worker.returncode == 0, out[-2000:] + err[-4000:]
            told = json.loads(out.splitlines()[-1])
            outcomes = told["outcomes"]
            assert {*outcomes.values()} == {"read", "refused"}, err[-8000:]
            assert len(outcomes) == number and told["mutations"] >= count
            print(f"{told['mutations']} mutations; the slowest took {told['slowest']:.2f} s")
            # A path to what is no file is refused, but a folder in place of an archive is read.
            for place, name in PLACES:
                for kind in {*KINDS} - {"empty"} - ({"folder"} if place == "archive" else set()):
                    assert outcomes[f"{place}, {name}: {kind}"] == "refused"
