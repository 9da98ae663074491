"""Files that GluonNLP 0.10.0 wrote: what it computed from them comes out here.

The golden files are made by `benchmarks/gluonnlp_models.py --write`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
import transformers
from numpy.typing import NDArray

import bertnli
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.formats.convert import digests
from bertnli.formats.load import load_checkpoint, load_pretrained
from bertnli.formats.params import read_params, write_params
from bertnli.text.wordpiece import load_gluonnlp

FOLDER = Path(__file__).parent.parent / "fixtures" / "gluonnlp"
ZOO, CLASSIFIER = FOLDER / "bert_2_32_4_tiny_uncased-0a1b2c3d.params", "model_bert_SNLI_0.params"
VOCAB = "tiny_uncased-4e5f6a7b.vocab"
#: A foreign order, of which GluonNLP's file says nothing.
CLASSES = ("neutral", "entailment", "contradiction")


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray]:
    with np.load(FOLDER / "golden.npz") as file:
        return dict(file)


def encoded_pairs(vocab: Any) -> Any:
    pairs = [tuple(pair) for pair in json.loads((FOLDER / "pairs.json").read_text())]
    dataset = PairDataset(Corpus.from_pairs(pairs), 40, vocab, verbose=False)
    return dataset.batch(np.arange(len(dataset)))


def apart(one: NDArray, other: NDArray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


def test_a_model_of_the_zoo(backend: Backend, loop: Any, golden: dict[str, NDArray]) -> None:
    bert: Any
    bert, vocab = backend.load_pretrained_model(ZOO, dropout=0.0)
    batch = encoded_pairs(vocab)
    valid = np.arange(batch.token_ids.shape[1]) < batch.valid_lens[:, None]
    assert np.array_equal(batch.valid_lens, golden["valid_lens"])
    assert np.array_equal(batch.token_ids[valid], golden["token_ids"][valid])
    assert np.array_equal(batch.segments[valid], golden["segments"][valid])
    arrays = (batch.token_ids, batch.segments, batch.valid_lens, golden["positions"])
    encoded, mlm, nsp = bert(*map(loop.tensor, arrays))
    with loop.scope():
        pooled = bert.hidden(encoded[:, 0])
    assert apart(loop.array(encoded)[valid], golden["encoded"][valid]) <= 1e-5
    assert apart(loop.array(pooled), golden["pooled"]) <= 1e-5
    assert apart(loop.array(mlm), golden["mlm"]) <= 1e-5
    assert apart(loop.array(nsp)[:, ::-1], golden["nsp"]) <= 1e-5
    assert np.ptp(golden["nsp"], axis=0).min() > 0.02  # the pairs are told apart


def test_a_classifier(backend: Backend, golden: dict[str, NDArray]) -> None:
    net = backend.load(FOLDER / CLASSIFIER, "cpu", CLASSES, num_heads=4)
    assert net.labels == CLASSES
    assert apart(net.logits(encoded_pairs(net.vocab)), golden["logits"]) <= 1e-5
    assert np.ptp(golden["logits"], axis=0).min() > 0.1


def test_what_the_file_does_not_tell_must_be_given(backend: Backend) -> None:
    with pytest.raises(CheckpointError, match="does not name its classes"):
        backend.load(FOLDER / CLASSIFIER, num_heads=4)
    with pytest.raises(ConfigError, match="num_heads"):
        backend.load(FOLDER / CLASSIFIER, labels=CLASSES)
    with pytest.raises(CheckpointError, match="has 4 heads"):
        backend.load_pretrained_model(ZOO, num_heads=8)
    with pytest.raises(CheckpointError, match=r"several files.*model_bert_SNLI_0"):
        backend.load_pretrained_model(FOLDER)


def test_the_classes_of_known_tasks(backend: Backend, tmp_path: Path) -> None:
    shutil.copy(FOLDER / VOCAB, tmp_path)
    path = tmp_path / "model_bert_MNLI_2.params"
    shutil.copy(FOLDER / CLASSIFIER, path)
    assert backend.load(path, num_heads=4).labels == ("neutral", "entailment", "contradiction")
    with pytest.raises(CheckpointError, match="says that its classes are"):
        backend.load(path, labels=["entailment", "neutral", "contradiction"], num_heads=4)
    shutil.copy(path, tmp_path / "model_bert_RTE_0.params")
    with pytest.raises(CheckpointError, match="3 classes, and 2 names"):
        backend.load(tmp_path / "model_bert_RTE_0.params", num_heads=4)


@pytest.mark.parametrize("kept", ["word_embed.0.weight", "decoder.3.weight"])
def test_tied_tensors_may_be_stored_once(tmp_path: Path, kept: str) -> None:
    stored = read_params(ZOO)
    assert isinstance(stored, dict)
    tied = {"word_embed.0.weight", "decoder.3.weight"}
    assert tied <= {*stored}
    write_params(tmp_path / ZOO.name, {k: a for k, a in stored.items() if k not in tied - {kept}})
    shutil.copy(FOLDER / VOCAB, tmp_path)
    found = load_pretrained(tmp_path)  # the only model of a folder
    assert digests(found.arrays) == digests(load_pretrained(ZOO).arrays)
    assert found.started == ()


def test_heads_that_are_not_there_have_start_values(tmp_path: Path) -> None:
    stored = read_params(ZOO)
    assert isinstance(stored, dict)
    few = {k: a for k, a in stored.items() if not k.startswith(("decoder.", "classifier."))}
    write_params(tmp_path / ZOO.name, few)
    shutil.copy(FOLDER / VOCAB, tmp_path)
    found = load_pretrained(tmp_path / ZOO.name)
    assert {name.split(".")[0] for name in found.started} == {"mlm", "nsp"}


def test_ernie_has_relu(tmp_path: Path) -> None:
    shutil.copy(ZOO, tmp_path / "ernie_2_32_4_tiny_uncased-1.params")
    shutil.copy(FOLDER / VOCAB, tmp_path)
    found = load_pretrained(tmp_path)
    assert (found.config.activation, found.config.norm_eps) == ("relu", 1e-5)
    assert {name.split(".")[0] for name in found.started} == {"mlm"}  # it has GELU
    config = load_pretrained(ZOO).config
    assert (config.activation, config.norm_eps, config.num_heads) == ("gelu", 1e-12, 4)


def test_a_classifier_of_ernie_is_known_by_its_positions(tmp_path: Path) -> None:
    stored = read_params(FOLDER / CLASSIFIER)
    assert isinstance(stored, dict)
    positions = np.zeros((513, 32), np.float32)
    arrays = {**stored, "bert.encoder.position_weight": positions}
    write_params(tmp_path / "model_bert_XNLI_0.params", arrays)
    shutil.copy(FOLDER / VOCAB, tmp_path)
    config = load_checkpoint(tmp_path, num_heads=4).config
    assert (config.activation, config.norm_eps) == ("relu", 1e-5)
    assert load_checkpoint(FOLDER / CLASSIFIER, CLASSES, 4).config.activation == "gelu"


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    stored = read_params(ZOO)
    assert isinstance(stored, dict)
    shutil.copy(FOLDER / VOCAB, tmp_path)
    path = tmp_path / ZOO.name
    write_params(path, {**stored, "encoder.layer_norm.weight": stored["encoder.layer_norm.beta"]})
    with pytest.raises(CheckpointError, match="twice, under two names"):
        load_pretrained(path)


def test_a_decoder_without_its_bias_is_no_head(tmp_path: Path) -> None:
    stored = read_params(ZOO)
    assert isinstance(stored, dict)
    few = {k: a for k, a in stored.items() if k in ("decoder.3.weight",) or "decoder" not in k}
    write_params(tmp_path / ZOO.name, few)
    shutil.copy(FOLDER / VOCAB, tmp_path)
    found = load_pretrained(tmp_path)
    assert {name.split(".")[0] for name in found.started} == {"mlm"}


def test_other_models_are_refused(tmp_path: Path) -> None:
    stored = read_params(ZOO)
    assert isinstance(stored, dict)
    roberta = {k: a for k, a in stored.items() if not k.startswith("token_type")}
    write_params(tmp_path / "roberta.params", roberta)
    with pytest.raises(CheckpointError, match="not RoBERTa"):
        load_pretrained(tmp_path / "roberta.params")
    write_params(tmp_path / "odd.params", {**stored, "encoder.extra": stored["pooler.bias"]})
    with pytest.raises(CheckpointError, match=r"encoder\.extra"):
        load_pretrained(tmp_path / "odd.params")


def test_the_vocabulary_is_the_one_of_the_model_s_name(tmp_path: Path) -> None:
    shutil.copy(ZOO, tmp_path)
    with pytest.raises(CheckpointError, match="no vocab"):
        load_pretrained(tmp_path)
    pieces = json.loads((FOLDER / VOCAB).read_text())
    for name in ("other_cased-1.vocab", "another-2.vocab"):
        (tmp_path / name).write_text(json.dumps({**pieces, "idx_to_token": ["x"]}))
    with pytest.raises(DataError, match="none of them named"):
        load_pretrained(tmp_path)
    (tmp_path / "other_cased-1.vocab").unlink()
    few = {**pieces, "idx_to_token": pieces["idx_to_token"][:-1]}
    for name in ("another-2.vocab", "tiny-3.vocab"):  # too few pieces for the model's rows
        (tmp_path / name).write_text(json.dumps(few))
        with pytest.raises(CheckpointError, match="69 tokens, the model rows for 70"):
            load_pretrained(tmp_path)
    shutil.copy(FOLDER / VOCAB, tmp_path)  # "tiny" is in the name too, but this is more of it
    assert load_pretrained(tmp_path).vocab.idx_to_token == pieces["idx_to_token"]


def test_letters_keep_their_case_where_the_pieces_do(tmp_path: Path) -> None:
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "dog", "e"]

    def unknown(name: str, more: list[str]) -> bool:
        path = tmp_path / name
        path.write_text(json.dumps({"idx_to_token": [*pieces, *more]}))
        vocab = load_gluonnlp(path)
        return next(vocab.ids_of(["Dog"], False)) == [0]

    assert not unknown("wiki_uncased-1.vocab", [])
    assert unknown("wiki_cased-1.vocab", [])
    assert not unknown("vocab.json", [])
    assert unknown("vocab.json", ["Cat"])
    path = tmp_path / "long.vocab"
    path.write_text(json.dumps({"idx_to_token": [*pieces, "##e"]}))
    assert next(load_gluonnlp(path).ids_of(["e" * 150], False)) == [6] + [7] * 149
    assert next(load_gluonnlp(path).ids_of(["e" * 201], False)) == [0]
    path = tmp_path / "sp.vocab"
    path.write_text(json.dumps({"idx_to_token": [*pieces, "\u2581dog"]}))
    with pytest.raises(DataError, match="SentencePiece"):
        load_gluonnlp(path)
    path.write_text(json.dumps({"idx_to_token": [*pieces, "dog"]}))
    with pytest.raises(DataError, match="twice"):
        load_gluonnlp(path)


def test_it_goes_to_transformers(tmp_path: Path, golden: dict[str, NDArray]) -> None:
    target = tmp_path / "hf"
    assert main(["convert", str(ZOO), str(target), "--to", "huggingface"]) == 0
    model: Any = transformers.BertForPreTraining.from_pretrained(target).eval()
    mask = np.arange(golden["token_ids"].shape[1]) < golden["valid_lens"][:, None]
    given = (golden["token_ids"], mask, golden["segments"])
    with torch.no_grad():
        found = model(*(torch.from_numpy(a.astype(np.int64)) for a in given))
    assert apart(found.seq_relationship_logits.numpy(), golden["nsp"]) <= 1e-5
    rows = np.arange(len(mask))[:, None]
    assert apart(found.prediction_logits.numpy()[rows, golden["positions"]], golden["mlm"]) <= 1e-5


def test_the_commands(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: dict[str, NDArray]
) -> None:
    assert main(["info", str(ZOO), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "GluonNLP BERT" and found["model"]["num_heads"] == 4
    assert found["vocabulary"] == len(load_pretrained(ZOO).vocab)
    argv = ["convert", str(FOLDER / CLASSIFIER), str(tmp_path / "native"), "--to", "bertnli"]
    assert main([*argv, "--num-heads", "4", "--labels", ",".join(CLASSES)]) == 0
    net = bertnli.load(tmp_path / "native", backend.name)
    assert net.labels == CLASSES
    assert apart(net.logits(encoded_pairs(net.vocab)), golden["logits"]) <= 1e-5
    argv = ["train", "--train", "sample", "--pretrained", str(ZOO), "--epochs", "1", "--quiet"]
    run = tmp_path / "run"
    assert main([*argv, "--backend", backend.name, "--output", str(run)]) == 0
    assert bertnli.load(run, backend.name).config.num_heads == 4


def test_no_framework_is_needed() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'mxnet', 'gluonnlp'): sys.modules[name] = None\n"
        "from bertnli.formats.load import load_checkpoint\n"
        "from bertnli.formats.convert import digests\n"
        f"print(len(digests(load_checkpoint({str(ZOO)!r}).arrays)))\n"
    )
    out = processes.run([sys.executable, "-c", code])
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) == len(load_checkpoint(ZOO).arrays)
