"""Hugging Face's folders: what transformers wrote opens here, and what we write opens there."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from refusals import refused
from safetensors.torch import load, save_file

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.data.batches import Batch
from bertnli.errors import CheckpointError
from bertnli.formats import huggingface
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.load import load_checkpoint, load_classifier
from bertnli.text.subwords import SubwordVocab
from bertnli.text.tokenizer_config import SPECIAL

PIECES = [*SPECIAL.values(), *"abcdefghijklmnopqrstuvwxyz.,!?'()-", "man", "dog", "is", "##s"]
LABELS = ("NEUTRAL", "ENTAILMENT", "CONTRADICTION")
PAIRS = [
    ("A man is running outside.", "A man is sleeping in the dog."),
    ("The dog", "A dog!"),
    ("It is.", "Nobody (not one) runs; really?"),
    ("A man is in the man is in the man. " * 12, "The dog is the dog. " * 9),
]


def make(cls, folder, **settings):
    """Write a small random model of transformers', far from its start values; return it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 64, "vocab_size": len(PIECES) + 3}
    torch.manual_seed(0)
    model = cls(transformers.BertConfig(**{**sizes, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """Write a classifier with classes in another order; return its folder and the model."""
    folder = tmp_path_factory.mktemp("hf") / "model"
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
    return folder, make(transformers.BertForSequenceClassification, folder, **names)


@pytest.fixture
def folder(classified, tmp_path):
    """Copy the classifier's folder, for tests that change it."""
    shutil.copytree(classified[0], tmp_path / "m")
    return tmp_path / "m"


def peer_logits(model, folder):
    """Compute the logits of the pairs with a model and a tokenizer of transformers'."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    how = {"padding": True, "truncation": "longest_first", "max_length": 64}
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), **how, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def assert_same_probabilities(net, model, folder):
    """Check that both compute the same for the pairs, which are told apart."""
    expected = torch.softmax(torch.from_numpy(peer_logits(model, folder)), 1).numpy()
    actual = [[p.probabilities[name] for name in net.labels] for p in net.predict(PAIRS)]
    assert np.abs(actual - expected).max() <= 1e-5
    assert np.ptp(expected, axis=0).min() > 0.01


def test_a_classifier_opens(backend, classified):
    folder, model = classified
    net = backend.load(folder)
    assert net.labels == LABELS
    assert_same_probabilities(net, model, folder)


@pytest.mark.parametrize("act", ["relu", "gelu_new", "gelu_pytorch_tanh"])
def test_other_activations(backend, tmp_path, act):
    model = make(transformers.BertForSequenceClassification, tmp_path, hidden_act=act)
    net = backend.load(tmp_path, labels=["no", "yes"])
    assert_same_probabilities(net, model, tmp_path)


def test_an_older_folder_opens(classified, tmp_path):
    """Old folders have a pickled state dict, LayerNorm's gamma and beta, and only vocab.txt."""
    folder, model = classified
    state = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): value
        for name, value in model.state_dict().items()
    }
    state["bert.embeddings.position_ids"] = torch.arange(64)[None]
    torch.save(state, tmp_path / "pytorch_model.bin")
    for name in ("config.json", "vocab.txt"):
        shutil.copy(folder / name, tmp_path)
    assert_same_probabilities(bertnli.load(tmp_path, "torch"), model, folder)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_a_pretrained_model_opens(backend, loop, tmp_path, kind):
    model = make(getattr(transformers, kind), tmp_path, hidden_dropout_prob=0.25)
    assert load_checkpoint(tmp_path).config.dropout == 0.25
    bert, vocab = backend.load_pretrained_model(tmp_path, dropout=0.0)
    assert len(vocab) == len(PIECES) < bert.config.vocab_size
    rng = np.random.default_rng(0)
    ids, segments = rng.integers(0, len(PIECES), (5, 9)), rng.integers(0, 2, (5, 9))
    lens = np.array([9, 4, 1, 8, 9])
    valid = np.arange(9) < lens[:, None]
    inputs = {"input_ids": ids, "token_type_ids": segments, "attention_mask": valid.astype("i8")}
    inputs = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.no_grad():
        base = getattr(model, "bert", model)(**inputs)
        outputs = model(**inputs)
    positions = np.array([[0, 3]] * 5)
    with loop.scope():
        tensors = [loop.tensor(a.astype(np.int32)) for a in (ids, segments, lens, positions)]
        encoded, mlm, nsp = (loop.array(x) for x in bert(*tensors))
    assert np.abs(encoded - base.last_hidden_state.numpy())[valid].max() <= 1e-5
    if kind == "BertModel":
        return
    expected = outputs["prediction_logits" if kind == "BertForPreTraining" else "logits"].numpy()
    assert np.abs(mlm - expected[:, [0, 3]])[valid[:, [0, 3]]].max() <= 2e-5
    if kind == "BertForPreTraining":  # its first class is the book's second
        assert np.abs(nsp[:, ::-1] - outputs.seq_relationship_logits.numpy()).max() <= 1e-5


def test_classes_without_names_are_not_guessed(folder, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="says that its classes are"):
        load_classifier(folder, ["entailment", "neutral", "contradiction"])
    assert load_classifier(folder, [name.lower() for name in LABELS]).labels == LABELS
    nameless = tmp_path / "nameless"
    make(transformers.BertForSequenceClassification, nameless, num_labels=3)
    refused(CheckpointError, "does not name its classes", load_classifier, nameless)
    with pytest.raises(CheckpointError, match="each of 3 classes, and 2 names"):
        load_classifier(nameless, ["a", "b"])
    argv = ["predict", str(nameless), "--pair", "A dog.", "A man."]
    assert main(argv) == 2
    assert "--labels" in capsys.readouterr().err
    assert main([*argv, "--labels", "a,b,c"]) == 0
    assert capsys.readouterr().out.split("\t")[0] in ("a", "b", "c")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model_type", "albert", "'albert'"),
        ("model_type", ["bert"], "type"),
        ("position_embedding_type", "relative_key", "position_embedding_type"),
        ("is_decoder", True, "is_decoder"),
        ("hidden_act", "silu", "hidden_act"),
        ("hidden_act", ["gelu"], "hidden_act"),
        ("type_vocab_size", 1, "type_vocab_size"),
        ("hidden_size", "wide", "num_hiddens"),
        ("num_attention_heads", 5, "num_heads"),
        ("problem_type", "regression", "problem_type"),
        ("id2label", {"0": "a", "1": "a", "2": "b"}, "id2label"),
        ("id2label", {"0": "a", "1": "b"}, "3 classes, and 2 names"),
        ("layer_norm_eps", 10**310, "too large"),
        ("num_hidden_layers", 200_000, "200000"),
        ("vocab_size", 10**30, "vocab_size"),
    ],
)
def test_other_models_are_refused_by_name(folder, setting, value, message):
    path = folder / "config.json"
    described = json.loads(path.read_text())
    if setting == "id2label":
        del described["label2id"]
    path.write_text(json.dumps({**described, setting: value}))
    refused(CheckpointError, message, load_classifier, folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_open(folder, dtype):
    original = load_checkpoint(folder).arrays
    weights = folder / "model.safetensors"
    tensors = load(weights.read_bytes())
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, weights)
    for name, array in load_checkpoint(folder).arrays.items():
        expected = torch.from_numpy(np.array(original[name])).to(dtype).float().numpy()
        assert np.array_equal(array.astype(np.float32), expected), name


def test_what_we_write_opens_there(classified, tmp_path):
    folder, model = classified
    huggingface.write(load_checkpoint(folder), tmp_path / "m")
    back = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()
    assert tuple(back.config.id2label.values()) == LABELS
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert np.array_equal(peer_logits(back, tmp_path / "m"), peer_logits(model, folder))
    vocab = SubwordVocab.from_pieces(PIECES)
    book = Checkpoint({}, BERTConfig(len(vocab), 8, 12, 2, 1, 0.0, 16), vocab, LABELS)
    with pytest.raises(CheckpointError, match=r"normalises the sum.*--to torch, mxnet or b"):
        huggingface.write(book, tmp_path / "book")


def test_fine_tuning_starts_from_it(backend, tmp_path):
    make(transformers.BertModel, tmp_path / "hf")
    rows = ["sentence1\tsentence2\tgold_label"]
    for i in range(24):
        words = ("man", "dog", "is")[i % 3]
        rows.append(f"a {words} .\t{words} !\t{bertnli.LABELS[i % 3]}")
    (tmp_path / "t.tsv").write_text("\n".join(rows) + "\n")
    data = ["--train", str(tmp_path / "t.tsv"), "--dev", str(tmp_path / "t.tsv")]
    argv = ["train", *data, "--pretrained", str(tmp_path / "hf"), "--backend", backend.name]
    argv += ["--epochs", "8", "--batch-size", "8", "--lr", "3e-3", "--dropout", "0", "--quiet"]
    assert main([*argv, "--devices", "cpu", "--output", str(tmp_path / "run")]) == 0
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["dev_accuracy"] > 0.9
    trained = load_classifier(tmp_path / "run")
    assert trained.config.embedding_norm and isinstance(trained.vocab, SubwordVocab)


def test_steps_are_those_of_transformers(backend, classified):
    """Compare the losses of our trainer with those of Adam on transformers' own model."""
    folder, model = classified
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.eval()  # no dropout
    net = backend.load(folder)
    plain = backend.BERTModel(**net.config.with_dropout(0.0).to_dict())
    plain = backend.BERTClassifier(plain, net.labels)
    plain.load_arrays(net.arrays(), "the test")
    trainer = backend.Trainer(plain, devices="cpu")
    optimizer = torch.optim.Adam(copy.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    lens = rng.integers(3, 20, 8).astype(np.int32)
    ids, segments = rng.integers(5, len(PIECES), (8, 20)), rng.integers(0, 2, (8, 20))
    labels = rng.integers(0, 3, 8)
    batch = Batch(ids.astype("i4"), segments.astype("i4"), lens, labels.astype("i4"))
    mask = (np.arange(20) < lens[:, None]).astype(np.int64)
    inputs = {
        "input_ids": ids,
        "token_type_ids": segments,
        "attention_mask": mask,
        "labels": labels,
    }
    inputs = {name: torch.from_numpy(array) for name, array in inputs.items()}
    for _ in range(5):
        loss = copy(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum, _ = trainer.train_step(batch, 1e-3, 0).read()
        assert abs(loss_sum / 8 - loss.item()) <= 1e-4
