"""Files that GluonNLP 0.10.0 wrote: what it computed from them comes out here.

The golden files are made by `benchmarks/gluonnlp_models.py --write`.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from refusals import refused

from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.formats.convert import convert, digests
from bertnli.formats.load import load_classifier, load_pretrained
from bertnli.formats.params import read_params, write_params
from bertnli.text.subwords import load_gluonnlp

FOLDER = Path(__file__).parent.parent / "fixtures" / "gluonnlp"
ZOO, CLASSIFIER = FOLDER / "bert_2_32_4_tiny_uncased-0a1b2c3d.params", "model_bert_SNLI_0.params"
VOCAB = "tiny_uncased-4e5f6a7b.vocab"
ROBERTA = FOLDER.parent / "roberta"
ROBERTA_ZOO = ROBERTA / "roberta_2_16_4_tiny_cased-0a1b2c3d.params"
#: A foreign order, of which GluonNLP's file says nothing.
CLASSES = ("neutral", "entailment", "contradiction")


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "golden.npz") as file:
        return dict(file)


def encoded_pairs(vocab):
    pairs = [tuple(pair) for pair in json.loads((FOLDER / "pairs.json").read_text())]
    dataset = PairDataset(Corpus.from_pairs(pairs), 40, vocab, verbose=False)
    return dataset.batch(np.arange(len(dataset)))


def apart(one, other):
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


def test_a_model_of_the_zoo(backend, loop, golden):
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


def test_a_classifier(backend, golden):
    net = backend.load(FOLDER / CLASSIFIER, "cpu", CLASSES, num_heads=4)
    assert net.labels == CLASSES
    assert apart(net.logits(encoded_pairs(net.vocab)), golden["logits"]) <= 1e-5
    assert np.ptp(golden["logits"], axis=0).min() > 0.1


def changed(folder, lost=(), copied=None, name=ZOO.name):
    """Write the zoo's model with other tensors, beside its vocabulary.

    Args:
        folder: where it is written.
        lost: how the names of tensors that are left out begin.
        copied: a tensor's further name to its name.
        name: the file's name.
    """
    stored = read_params(ZOO)
    arrays = {key: array for key, array in stored.items() if not key.startswith(tuple(lost))}
    arrays |= {new: stored[old] for new, old in (copied or {}).items()}
    shutil.copy(FOLDER / VOCAB, folder)
    write_params(folder / name, arrays)
    return folder / name


def started(checkpoint):
    return {name.split(".")[0] for name in checkpoint.started}


def test_what_the_file_does_not_tell_must_be_given(tmp_path):
    with pytest.raises(CheckpointError, match="does not name its classes"):
        load_classifier(FOLDER / CLASSIFIER, num_heads=4)
    refused(ConfigError, "num_heads", load_classifier, FOLDER / CLASSIFIER, CLASSES)
    refused(CheckpointError, "has 4 heads", load_pretrained, ZOO, sizes={"num_heads": 8})
    refused(CheckpointError, r"several files.*model_bert_SNLI_0", load_pretrained, FOLDER)
    shutil.copy(FOLDER / VOCAB, tmp_path)
    mnli, rte = tmp_path / "model_bert_MNLI_0.params", tmp_path / "model_bert_RTE_0.params"
    for path in (mnli, rte):  # tasks whose classes are known
        shutil.copy(FOLDER / CLASSIFIER, path)
    assert load_classifier(mnli, num_heads=4).labels == CLASSES
    with pytest.raises(CheckpointError, match="says that its classes are"):
        load_classifier(mnli, ["entailment", "neutral", "contradiction"], num_heads=4)
    refused(CheckpointError, "3 classes, and 2 names", load_classifier, rte, num_heads=4)


@pytest.mark.parametrize("lost", ["word_embed.0.weight", "decoder.3.weight"])
def test_tied_tensors_may_be_stored_once(tmp_path, lost):
    changed(tmp_path, [lost])
    checkpoint = load_pretrained(tmp_path)  # the only model of a folder
    assert digests(checkpoint.arrays) == digests(load_pretrained(ZOO).arrays)
    assert checkpoint.started == ()


@pytest.mark.parametrize(
    ("lost", "heads"),
    [
        (("decoder.", "classifier."), {"mlm", "nsp"}),
        (("decoder.0", "decoder.2", "decoder.3.bias"), {"mlm"}),  # a decoder alone is no head
    ],
)
def test_heads_that_are_not_there_have_start_values(tmp_path, lost, heads):
    assert started(load_pretrained(changed(tmp_path, lost))) == heads


def test_ernie_has_its_own_activation(tmp_path):
    checkpoint = load_pretrained(changed(tmp_path, name="ernie_2_32_4_tiny_uncased-1.params"))
    assert (checkpoint.config.activation, checkpoint.config.norm_eps) == ("relu", 1e-5)
    assert started(checkpoint) == {"mlm"}  # it has GELU
    config = load_pretrained(ZOO).config
    assert (config.activation, config.norm_eps, config.num_heads) == ("gelu", 1e-12, 4)
    # A classifier of ERNIE is known by its positions.
    arrays = read_params(FOLDER / CLASSIFIER)
    arrays["bert.encoder.position_weight"] = np.zeros((513, 32), np.float32)
    path = tmp_path / "model_bert_XNLI_0.params"
    write_params(path, arrays)
    assert load_classifier(path, num_heads=4).config.activation == "relu"
    assert load_classifier(FOLDER / CLASSIFIER, CLASSES, 4).config.activation == "gelu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"copied": {"encoder.layer_norm.weight": "encoder.layer_norm.beta"}},
            "twice, under two names",
        ),
        ({"lost": ["token_type", "pooler", "classifier", "decoder"]}, "roberta_12_768_12_"),
        ({"copied": {"encoder.extra": "pooler.bias"}}, r"encoder\.extra"),
    ],
)
def test_other_tensors_are_refused(tmp_path, change, message):
    refused(CheckpointError, message, load_pretrained, changed(tmp_path, **change))


def test_the_vocabulary_is_the_one_of_the_model_s_name(tmp_path):
    shutil.copy(ZOO, tmp_path)
    pieces = json.loads((FOLDER / VOCAB).read_text())

    def write(tokens, *names):
        for name in names:
            (tmp_path / name).write_text(json.dumps({**pieces, "idx_to_token": tokens}))

    refused(CheckpointError, "no vocab", load_pretrained, tmp_path)
    write(["x"], "other_cased-1.vocab", "another-2.vocab")
    refused(DataError, "none of them named", load_pretrained, tmp_path)
    write(pieces["idx_to_token"][:-1], "tiny-3.vocab")
    refused(CheckpointError, "69 tokens, the model rows for 70", load_pretrained, tmp_path)
    shutil.copy(FOLDER / VOCAB, tmp_path)  # "tiny" is in the name too, but this is more of it
    assert load_pretrained(tmp_path).vocab.idx_to_token == pieces["idx_to_token"]


def test_letters_keep_their_case_where_the_pieces_do(tmp_path):
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "dog", "e", "##e"]

    def ids(name, text, *more):
        path = tmp_path / name
        path.write_text(json.dumps({"idx_to_token": [*pieces, *more]}))
        return next(load_gluonnlp(path).ids_of([text], False))

    assert ids("wiki_uncased-1.vocab", "Dog") == ids("vocab.json", "Dog") == [5]
    assert ids("wiki_cased-1.vocab", "Dog") == ids("vocab.json", "Dog", "Cat") == [0]
    assert ids("long.vocab", "e" * 150) == [6] + [7] * 149
    assert ids("long.vocab", "e" * 201) == [0]
    for more, message in (("\u2581dog", "SentencePiece"), ("dog", "twice")):
        refused(DataError, message, ids, "wrong.vocab", "Dog", more)


def test_it_goes_to_transformers(tmp_path, golden):
    convert(ZOO, tmp_path / "hf", "huggingface")
    model = transformers.BertForPreTraining.from_pretrained(tmp_path / "hf").eval()
    mask = np.arange(golden["token_ids"].shape[1]) < golden["valid_lens"][:, None]
    given = (golden["token_ids"], mask, golden["segments"])
    with torch.no_grad():
        outputs = model(*(torch.from_numpy(a.astype(np.int64)) for a in given))
    assert apart(outputs.seq_relationship_logits.numpy(), golden["nsp"]) <= 1e-5
    rows = np.arange(len(mask))[:, None]
    mlm = outputs.prediction_logits.numpy()[rows, golden["positions"]]
    assert apart(mlm, golden["mlm"]) <= 1e-5


@pytest.fixture(scope="module")
def roberta():
    with np.load(ROBERTA / "golden.npz") as file:
        return dict(file)


def test_roberta(backend, loop, roberta):
    bert, vocab = backend.load_pretrained_model(ROBERTA_ZOO, dropout=0.0)
    batch = encoded_pairs(vocab)
    width = batch.token_ids.shape[1]
    valid = np.arange(width) < batch.valid_lens[:, None]
    assert np.array_equal(batch.valid_lens, roberta["valid_lens"])
    assert np.array_equal(batch.token_ids[valid], roberta["token_ids"][:, :width][valid])
    arrays = (batch.token_ids, batch.segments, batch.valid_lens, roberta["positions"])
    encoded, mlm, _ = bert(*map(loop.tensor, arrays))
    assert apart(loop.array(encoded)[valid], roberta["encoded"][:, :width][valid]) <= 1e-5
    assert apart(loop.array(mlm), roberta["mlm"]) <= 1e-5
    net = backend.load(ROBERTA / CLASSIFIER, "cpu", CLASSES, num_heads=4)
    assert apart(net.logits(batch), roberta["logits"]) <= 1e-5
    assert np.ptp(roberta["logits"], axis=0).min() > 0.1


def test_roberta_goes_to_transformers(tmp_path, roberta):
    convert(ROBERTA / CLASSIFIER, tmp_path / "hf", "huggingface", labels=CLASSES, num_heads=4)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    assert model.config.model_type == "roberta"
    mask = np.arange(roberta["token_ids"].shape[1]) < roberta["valid_lens"][:, None]
    with torch.no_grad():
        given = (torch.from_numpy(a.astype(np.int64)) for a in (roberta["token_ids"], mask))
        logits = model(*given).logits.numpy()
    assert apart(logits, roberta["logits"]) <= 1e-5


def other_model(folder, name, lost, file=ROBERTA_ZOO):
    """Write a model without the tensors whose names begin with `lost`, beside its vocabulary."""
    for vocab in file.parent.glob("*[bs]*.[vj]*"):
        shutil.copy(vocab, folder)
    stored = read_params(file).items()
    write_params(folder / name, {key: array for key, array in stored if not key.startswith(lost)})
    return folder / name


def test_an_encoder_alone_is_named(tmp_path):
    encoder = other_model(tmp_path, "distilbert_2_16_4_tiny_cased.params", "decoder")
    config = load_pretrained(encoder).config
    assert (config.family, config.num_segments, config.norm_eps) == ("distilbert", 0, 1e-5)
    assert config.max_len == load_pretrained(ROBERTA_ZOO).config.max_len == 48
    with pytest.raises(CheckpointError, match=r"cannot say.*norm_eps=1e-05"):
        convert(encoder, tmp_path / "hf", "huggingface")
    encoder = encoder.rename(tmp_path / "roberta_2_16_4_tiny_cased.params")
    assert load_pretrained(encoder).config.family == "roberta"
    encoder = encoder.rename(tmp_path / "encoder_tiny_cased.params")
    refused(CheckpointError, "let its name begin", load_pretrained, encoder)


def test_a_bert_without_segments(tmp_path):
    config = load_pretrained(other_model(tmp_path, ZOO.name, "token_type", ZOO)).config
    assert (config.family, config.num_segments, config.norm_eps) == ("bert", 0, 1e-12)


def test_what_roberta_s_vocabulary_needs(tmp_path):
    path = other_model(tmp_path, ROBERTA_ZOO.name, ("none",))
    ranks = next(tmp_path.glob("*bpe_ranks*"))
    tokens = load_pretrained(path).vocab.idx_to_token
    ranks.rename(tmp_path / "merges.txt")  # as transformers calls it
    vocab = load_pretrained(path).vocab
    assert vocab.idx_to_token == tokens and vocab.separators == 1
    # GluonNLP's tokenizer knows no special tokens in text.
    (ids,) = vocab.ids_of(["<mask> the dog"], False)
    assert [tokens[i] for i in ids] == ["<", "ma", "s", "k", ">", "\u0120the", "\u0120dog"]
    (tmp_path / "merges.txt").write_text("#version: 0.2\nx y z\n")
    refused(DataError, "merges.txt lacks the merges of 25", load_pretrained, path)
    (tmp_path / "merges.txt").unlink()
    refused(DataError, "openai_webtext_bpe_ranks.*put either", load_pretrained, path)
