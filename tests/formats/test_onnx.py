"""ONNX out: onnxruntime computes from our graph what the backends compute."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import processes
import pytest

from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.data.batches import Batch
from bertnli.errors import CheckpointError
from bertnli.formats import onnx as export
from bertnli.formats.convert import FORMATS

CLASSES = ("neutral", "contradiction", "entailment")
BOOK = BERTConfig(40, 24, 20, 3, 3, 0.1, 30)
DEVLIN = replace(BOOK, activation="gelu", embedding_norm=True, norm_eps=1e-12)
KINDS = {
    "book": BOOK,
    "Devlin": DEVLIN,
    "tanh": replace(DEVLIN, activation="gelu_tanh", norm_eps=1e-6),
    "RoBERTa": replace(DEVLIN, num_segments=1, pair_segments=False, first_position=2),
    "two unread": replace(DEVLIN, pair_segments=False),
    "DistilBERT": replace(DEVLIN, num_segments=0, pooler_activation="relu"),
    "ELECTRA": replace(DEVLIN, embedding_size=12, pooler_activation="gelu"),
    "MPNet": replace(DEVLIN, num_segments=0, first_position=2, relative_buckets=32),
    "DeBERTa": replace(DEVLIN, num_segments=0, position_buckets=6),
    "one block": replace(BOOK, num_heads=4, num_blks=1, activation="gelu"),
}


def feeds(batch):
    mask = np.arange(batch.token_ids.shape[1]) < batch.valid_lens[:, None]
    arrays = (batch.token_ids, mask, batch.segments)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: array.astype(np.int64) for name, array in zip(names, arrays, strict=True)}


@pytest.fixture
def model(tmp_path, make_checkpoint):
    """Write a classifier's folder; return its path as text."""
    FORMATS["mxnet"](make_checkpoint(DEVLIN, CLASSES), tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_onnxruntime_computes_the_backend_s_logits(
    backend, tmp_path, make_checkpoint, make_batch, config
):
    given = make_checkpoint(config, CLASSES)
    export.write_onnx(tmp_path / "model.onnx", given)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    net = backend.BERTClassifier(backend.BERTModel(**config.to_dict()), CLASSES)
    net.load_arrays(given.arrays, "the test")
    for size, longest in ((1, 5), (7, 30), (4, 12)):
        batch = make_batch(size, vocab_size=40, longest=longest)
        (logits,) = session.run(None, feeds(batch))
        assert np.abs(logits - net.logits(batch)).max() <= 1e-5
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == list(CLASSES)
    assert BERTConfig(**json.loads(facts["model"])) == config
    assert [i.name for i in session.get_inputs()] == list(export.INPUTS)
    assert session.get_outputs()[0].shape == ["batch", 3]
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == export.OPSET


def test_a_pretrained_model_gives_its_two_outputs(
    tmp_path, make_checkpoint, make_batch, loops, both
):
    given = make_checkpoint(DEVLIN, None)
    export.write_onnx(tmp_path / "model.onnx", given)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert [o.name for o in session.get_outputs()] == ["last_hidden_state", "pooler_output"]
    batch = make_batch(5, vocab_size=40, longest=30)
    encoded, pooled = session.run(None, feeds(batch))
    nli, loop = both[0], loops["torch"]
    bert = nli.BERTModel(**given.config.to_dict())
    bert.load_arrays(given.arrays, "the test")
    inputs = [loop.tensor(a) for a in (batch.token_ids, batch.segments, batch.valid_lens)]
    expected = bert.eval().encoder(*inputs)
    valid = np.arange(encoded.shape[1]) < batch.valid_lens[:, None]
    assert np.abs(encoded - loop.array(expected))[valid].max() <= 1e-5
    assert np.abs(pooled - loop.array(bert.hidden(expected[:, 0]))).max() <= 1e-5


@pytest.mark.parametrize(("right", "wrong"), [(0.5, 0.5005), (-1e30, -1.0)])
def test_a_wrong_graph_is_not_written(model, tmp_path, monkeypatch, capsys, right, wrong):
    """The check notices an activation that is off by a thousandth, and padding that is seen."""
    honest = export._Graph.number
    monkeypatch.setattr(
        export._Graph, "number", lambda self, v: honest(self, wrong if v == right else v)
    )
    assert main(["export", model, str(tmp_path / "exported"), "--format", "onnx"]) == 2
    assert "computes something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_computed_is_an_error(tmp_path, make_checkpoint):
    given = make_checkpoint(BOOK, CLASSES)
    export.write_onnx(tmp_path / "model.onnx", given)
    ids = np.ones((2, 31), np.int32)
    batch = Batch(ids, ids, np.full(2, 31, np.int32), ids[:, 0])
    with pytest.raises(CheckpointError, match="the graph: "):  # a pair that is too long
        export.OnnxModel(tmp_path / "model.onnx").outputs(batch)
    given.arrays["hidden.bias"][:] = np.nan
    with pytest.raises(CheckpointError, match="nan of the largest"):
        export.write_onnx(tmp_path / "model.onnx", given)


def test_int8_has_a_scale_for_each_column(tmp_path, make_checkpoint):
    export.write_onnx(tmp_path / "model.onnx", make_checkpoint(BOOK, CLASSES))
    export.quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    tensors = onnx.load(tmp_path / "int8.onnx").graph.initializer
    scales = {t.name: list(t.dims) for t in tensors if t.name.endswith("_scale")}
    dense1 = [dims for name, dims in scales.items() if "ffn.dense1.weight" in name]
    assert dense1 == [[20]] * 3


def test_the_command_says_what_int8_costs(tmp_path, capsys):
    target = tmp_path / "exported"
    argv = [
        "export",
        "bert.mini",
        str(target),
        "--format",
        "onnx",
        "--int8",
        "--check",
        "sample:dev",
    ]
    assert main(argv) == 0
    out = capsys.readouterr().out
    files = sorted(path.name for path in target.iterdir())
    assert out.endswith(f"wrote the folder {target}: {', '.join(files)}\n")
    assert {"model.int8.onnx", "model.onnx"} < {*files}
    scores = {
        line.split(":")[0]: float(line.split("accuracy ")[1].split(",")[0])
        for line in out.splitlines()
        if "accuracy" in line
    }
    assert main(["evaluate", "bert.mini", "sample:dev", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert scores["model.onnx"] == pytest.approx(accuracy, abs=1e-4)
    assert abs(scores["model.int8.onnx"] - accuracy) <= 0.05
    small, large = ((target / f).stat().st_size for f in ("model.int8.onnx", "model.onnx"))
    assert small < large / 2
    assert main(argv) == 2  # nothing is replaced
    assert "exists" in capsys.readouterr().err


def test_a_target_that_ends_in_onnx_is_a_file(model, tmp_path, capsys):
    target = tmp_path / "new" / "mine.onnx"
    argv = ["export", model, str(target), "--format", "onnx", "--int8"]
    assert main(argv) == 0
    *_, last = capsys.readouterr().out.splitlines()
    int8 = target.with_name("mine.int8.onnx")
    assert last.startswith(f"wrote {target} and {int8}: the graph alone.")
    assert f"need the vocabulary of {model}" in last
    assert sorted(target.parent.iterdir()) == [int8, target]
    for graph in (target, int8):
        facts = onnxruntime.InferenceSession(str(graph)).get_modelmeta().custom_metadata_map
        assert json.loads(facts["labels"]) == list(CLASSES)
    target.unlink()
    assert main(argv) == 2  # nothing is replaced, and nothing is written
    assert f"{int8} exists" in capsys.readouterr().err
    assert list(target.parent.iterdir()) == [int8]
    target.mkdir()
    assert main(argv[:-1]) == 2
    assert f"{target} exists" in capsys.readouterr().err


def test_nothing_of_a_file_is_left_where_writing_fails(model, tmp_path, monkeypatch):
    def fails(path, target):
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(export, "quantize", fails)
    argv = ["export", model, str(tmp_path / "mine.onnx"), "--format", "onnx", "--int8"]
    assert main(argv) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_pretrained_model_has_nothing_to_score(tmp_path, make_checkpoint, capsys):
    FORMATS["mxnet"](make_checkpoint(BOOK, None), tmp_path / "model")
    argv = ["export", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "onnx"]
    assert main([*argv, "--check", "sample"]) == 2
    assert "no classes to score" in capsys.readouterr().err
    assert main(argv) == 0


WITHOUT_FRAMEWORKS = """
import sys
for name in ("torch", "mxnet", "transformers"):
    sys.modules[name] = None
from bertnli.cli import main
sys.exit(main(["export", *sys.argv[1:], "--format", "onnx"]))
"""


def test_no_framework_is_needed(model, tmp_path):
    words = [model, str(tmp_path / "out")]
    out = processes.run([sys.executable, "-c", WITHOUT_FRAMEWORKS, *words])
    assert out.returncode == 0, out.stderr
    assert "from the float64 referee" in out.stdout
