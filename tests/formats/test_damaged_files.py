"""Files that are damaged, or made to do harm: an error, or exactly what they declare, and quickly.

The cases run in a process of their own, which has no framework, may not get 200 MB of memory more
than it has before the case, and watches what Python is asked to do besides reading.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from safetensors.torch import load_file, save_file

from bertnli.backends.mxnet._framework import mx
from bertnli.bert.config import BERTConfig
from bertnli.formats import gluonnlp
from bertnli.formats.convert import FORMATS
from bertnli.formats.names import by_template

WORKER = Path(__file__).parent / "damaged_files_worker.py"
READERS = (
    *("params", "state dict", "legacy state dict", "Hugging Face", "Hugging Face, pickled"),
    *("GluonNLP", "native", "book, MXNet", "book, PyTorch", "archive"),
)
#: Cases of each reader, here and in the long run.
FEW, MANY = 60, 5000
CLASSES = ("entailment", "contradiction", "neutral")
CONFIG = BERTConfig(12, 4, 6, 2, 1, 0.1, 8, "gelu", True, 1e-12)


def some_arrays():
    """Of several dtypes and shapes, one of them empty."""
    rng = np.random.default_rng(0)
    return {
        "encoder.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "encoder.half": rng.normal(size=(2, 1, 5)).astype(np.float16),
        "count": np.array([7, -1], np.int64),
        "bytes": np.arange(5, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
    }


def write_params(folder):
    for name, numpy_mode in (("v2.params", False), ("v3.params", True)):
        with mx.util.np_shape(numpy_mode), mx.util.np_array(numpy_mode):
            make = mx.np.array if numpy_mode else mx.nd.array
            arrays = {k: make(a, dtype=a.dtype) for k, a in some_arrays().items() if a.size}
            (mx.npx if numpy_mode else mx.nd).save(str(folder / name), arrays)
        yield folder / name


def write_state_dicts(folder, zipped):
    state = {name: torch.from_numpy(a) for name, a in some_arrays().items()}
    state["transposed"] = state["encoder.weight"].t()
    state["short"] = torch.randn(3).bfloat16()
    state["untyped"] = torch.tensor([1, 2, 3], dtype=torch.uint16)
    torch.save(state, folder / "state.pt", _use_new_zipfile_serialization=zipped)
    yield folder / "state.pt"


def write_gluonnlp(folder, given):
    theirs = {ours: name for name, ours in gluonnlp.NAMES.items()}
    arrays = {}
    for name, array in given.arrays.items():
        if name.startswith("output."):
            arrays[name.replace("output", "classifier.1")] = array
        else:
            renamed = by_template(name, theirs)
            if name.startswith("encoder.") and "ln." in name:
                renamed = renamed.replace("weight", "gamma").replace("bias", "beta")
            arrays[f"bert.{renamed}"] = array[0] if name == "encoder.pos_embedding" else array
    mx.nd.save(
        str(folder / "bert_1_4_2_tiny.params"),
        {name: mx.nd.array(a, dtype=a.dtype) for name, a in arrays.items()},
    )
    pieces = given.vocab.idx_to_token
    text = json.dumps(
        {"idx_to_token": pieces, "token_to_idx": {p: i for i, p in enumerate(pieces)}}
    )
    (folder / "tiny.vocab").write_text(text)


def originals(reader, folder, make_checkpoint):
    """Write whole files of a reader; return their paths."""
    given: Any = make_checkpoint(CONFIG, CLASSES)
    if reader in READERS[:3] or reader == "GluonNLP":
        folder.mkdir()
    if reader == "params":
        return [str(path) for path in write_params(folder)]
    if "state dict" in reader:
        return [str(path) for path in write_state_dicts(folder, reader == "state dict")]
    if reader == "GluonNLP":
        write_gluonnlp(folder, given)
        return [str(folder)]
    if reader.startswith("book"):
        book = BERTConfig(12, 4, 6, 2, 1, 0.1, 8)
        FORMATS["mxnet" if "MXNet" in reader else "torch"](make_checkpoint(book, None), folder)
        return [str(folder)]
    FORMATS["huggingface" if "Hugging" in reader else "bertnli"](given, folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    if reader == "Hugging Face, pickled":
        weights.unlink()
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        name = next(name for name in tensors if name.endswith("W_q.bias") or "query.bias" in name)
        save_file({**tensors, name: tensors[name].bfloat16()}, weights)
    if reader == "archive":
        return [shutil.make_archive(str(folder.parent / "model"), "zip", folder)]
    return [str(folder)]


def run_cases(reader, count, home, make_checkpoint):
    paths = originals(reader, home / "original", make_checkpoint)
    (home / "cases").mkdir()
    argv = [sys.executable, str(WORKER), reader, str(count), str(home / "cases"), *paths]
    env = {**os.environ, "BERTNLI_CACHE": str(home / "cases" / "cache")}
    done = processes.run(argv, env=env, limit=processes.LIMIT + 10 * count)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert result["refused"] + result["read"] == count
    # Most of the damage is seen; some of it is to numbers, of which any is as good as another.
    assert result["refused"] > count / 5 and result["read"] > count / 50
    return result


@pytest.mark.parametrize("reader", READERS)
def test_some_damaged_files(reader, tmp_path, make_checkpoint):
    run_cases(reader, FEW, tmp_path, make_checkpoint)


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
def test_many_damaged_files(reader, tmp_path, make_checkpoint):
    run_cases(reader, MANY, tmp_path, make_checkpoint)
