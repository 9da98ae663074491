"""Hugging Face's folders: what transformers wrote opens here, and what we write opens there."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import bertnli
from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.data.batches import Batch
from bertnli.data.corpus import Corpus
from bertnli.errors import CheckpointError, DataError
from bertnli.formats import huggingface
from bertnli.formats.load import load_checkpoint
from bertnli.text.tokenizer_config import SPECIAL
from bertnli.text.wordpiece import WordPieceVocab, load_vocab

PIECES = [
    *SPECIAL.values(),
    *"abcdefghijklmnopqrstuvwxyz.,!?'()-",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *("a", "man", "dog", "is", "run", "##ning", "sleep", "outside", "the", "in")[1:],
    *("é", "中", "文"),
]
#: The two tokenizers know different versions of Unicode: characters that are old.
LETTERS = st.characters(max_codepoint=0x24F) | st.sampled_from("中文漢“”‘’—…€αЖא\u200b\u3000😀")
LABELS = ["NEUTRAL", "ENTAILMENT", "CONTRADICTION"]
PAIRS = [
    ("A man is running outside.", "A man is sleeping in the dog."),
    ("The dog", "A dog!"),
    ("It is.", "Nobody (not one) runs; really?"),
    ("A man is in the man is in the man. " * 12, "The dog is the dog. " * 9),
]


def make(cls: Any, folder: Path, **settings: Any) -> Any:
    """Write a small random model of transformers', far from its start values; return it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.BertConfig(
        vocab_size=len(PIECES) + 3,
        intermediate_size=48,
        max_position_embeddings=64,
        **{**sizes, **settings},
    )
    torch.manual_seed(0)
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A classifier's folder, with the classes in an order of its own, and the model."""
    folder = tmp_path_factory.mktemp("hf") / "model"
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
    return folder, make(transformers.BertForSequenceClassification, folder, **names)


def their_logits(model: Any, folder: Path) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        *map(list, zip(*PAIRS, strict=True)),
        padding=True,
        truncation="longest_first",
        max_length=64,
        return_tensors="pt",
    )
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def our_logits(net: Any) -> np.ndarray:
    predictions = net.predict(PAIRS)
    rows = [[np.log(p.probabilities[name]) for name in net.labels] for p in predictions]
    return np.array(rows)


def test_a_classifier_opens(backend: Backend, classified: tuple[Path, Any]) -> None:
    folder, model = classified
    net = backend.load(folder)
    assert net.labels == tuple(LABELS)
    expected = torch.log_softmax(torch.from_numpy(their_logits(model, folder)), 1).numpy()
    assert np.abs(our_logits(net) - expected).max() <= 1e-5
    assert np.ptp(expected, axis=0).min() > 0.05  # the pairs are told apart


@pytest.mark.parametrize("act", ["relu", "gelu_new", "gelu_pytorch_tanh"])
def test_other_activations(backend: Backend, tmp_path: Path, act: str) -> None:
    model = make(transformers.BertForSequenceClassification, tmp_path, hidden_act=act)
    expected = torch.log_softmax(torch.from_numpy(their_logits(model, tmp_path)), 1).numpy()
    net = backend.load(tmp_path, labels=["no", "yes"])
    assert np.abs(our_logits(net) - expected).max() <= 1e-5


def test_an_older_folder_opens(
    backend: Backend, classified: tuple[Path, Any], tmp_path: Path
) -> None:
    """A pickled state dict, gamma and beta, vocab.txt alone."""
    folder, model = classified
    state = model.state_dict()
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in state.items()
    }
    state["bert.embeddings.position_ids"] = torch.arange(64)[None]
    torch.save(state, tmp_path / "pytorch_model.bin")
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(folder / "vocab.txt", tmp_path)
    net, same = backend.load(tmp_path), backend.load(folder)
    assert np.array_equal(our_logits(net), our_logits(same))


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_a_pretrained_model_opens(backend: Backend, loop: Any, tmp_path: Path, kind: str) -> None:
    model = make(getattr(transformers, kind), tmp_path)
    bert, vocab = backend.load_pretrained_model(tmp_path, dropout=0.0)
    assert len(vocab) == len(PIECES) < bert.config.vocab_size
    rng = np.random.default_rng(0)
    ids, segments = rng.integers(0, 60, (5, 9)), rng.integers(0, 2, (5, 9))
    lens = np.array([9, 4, 1, 8, 9])
    masks = torch.from_numpy((np.arange(9) < lens[:, None]).astype(np.int64))
    inputs = {
        "input_ids": torch.from_numpy(ids),
        "token_type_ids": torch.from_numpy(segments),
        "attention_mask": masks,
    }
    with torch.no_grad():
        base = getattr(model, "bert", model)(**inputs)
    positions = np.array([[0, 3]] * 5)
    with loop.scope():
        tensors = [loop.tensor(array.astype(np.int32)) for array in (ids, segments, lens)]
        encoded, mlm, nsp = bert(*tensors, loop.tensor(positions.astype(np.int32)))
        encoded, mlm, nsp = (loop.array(x) for x in (encoded, mlm, nsp))
    valid = masks.numpy().astype(bool)
    assert np.abs(encoded - base.last_hidden_state.numpy())[valid].max() <= 1e-5
    if kind == "BertModel":
        return
    with torch.no_grad():
        outputs = model(**inputs)
    theirs = outputs["prediction_logits" if kind == "BertForPreTraining" else "logits"].numpy()
    for pair, row in enumerate(positions):
        for i, place in enumerate(row):
            if valid[pair, place]:
                assert np.abs(mlm[pair, i] - theirs[pair, place]).max() <= 2e-5
    if kind == "BertForPreTraining":
        found = nsp[:, ::-1]  # its first class is the book's second
        assert np.abs(found - outputs.seq_relationship_logits.numpy()).max() <= 1e-5


def test_classes_without_names_are_not_guessed(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(transformers.BertForSequenceClassification, tmp_path, num_labels=3)
    with pytest.raises(CheckpointError, match="does not name its classes"):
        backend.load(tmp_path)
    assert backend.load(tmp_path, labels=["a", "b", "c"]).labels == ("a", "b", "c")
    with pytest.raises(CheckpointError, match="each of 3 classes, and 2 names"):
        backend.load(tmp_path, labels=["a", "b"])
    argv = ["predict", str(tmp_path), "--backend", backend.name, "--pair", "A dog.", "A man."]
    assert main(argv) == 2
    assert "--labels" in capsys.readouterr().err
    assert main([*argv, "--labels", "a,b,c"]) == 0
    assert capsys.readouterr().out.split("\t")[0] in ("a", "b", "c")


def test_names_that_contradict_the_file_are_an_error(
    backend: Backend, classified: tuple[Path, Any]
) -> None:
    folder, _ = classified
    with pytest.raises(CheckpointError, match="says that its classes are"):
        backend.load(folder, labels=["entailment", "neutral", "contradiction"])
    net = backend.load(folder, labels=[name.lower() for name in LABELS])
    assert net.labels == tuple(LABELS)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model_type", "roberta", "'roberta'"),
        ("position_embedding_type", "relative_key", "position_embedding_type"),
        ("is_decoder", True, "is_decoder"),
        ("hidden_act", "silu", "hidden_act"),
        ("hidden_act", ["gelu"], "hidden_act"),
        ("type_vocab_size", 1, "type_vocab_size"),
        ("hidden_size", "wide", "num_hiddens"),
        ("num_attention_heads", 5, "num_heads"),
        ("problem_type", "regression", "problem_type"),
        ("id2label", {"0": "a", "1": "a", "2": "b"}, "id2label"),
        ("id2label", {"0": "a", "1": None, "2": "b"}, "id2label"),
        ("id2label", {"0": "a", "1": "b"}, "3 classes, and 2 names"),
        ("id2label", {"5": "a", "6": "b", "7": "c"}, "from 0"),
        ("id2label", {"0": "a", "00": "b", "1": "c"}, "from 0"),
        ("label2id", {"NEUTRAL": 1, "ENTAILMENT": 0, "CONTRADICTION": 2}, "contradict"),
        ("layer_norm_eps", 10**310, "too large"),
        ("num_hidden_layers", 200_000, "200000"),
        ("vocab_size", 10**30, "vocab_size"),
    ],
)
def test_other_models_are_refused_by_name(
    classified: tuple[Path, Any], tmp_path: Path, setting: str, value: Any, message: str
) -> None:
    shutil.copytree(classified[0], tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    described = json.loads(path.read_text())
    if setting == "id2label":
        del described["label2id"]
    path.write_text(json.dumps({**described, setting: value}))
    with pytest.raises(CheckpointError, match=message):
        bertnli.load(tmp_path / "m", "torch")


def test_a_tensor_under_two_names_is_refused(classified: tuple[Path, Any], tmp_path: Path) -> None:
    shutil.copytree(classified[0], tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    tensors = load_file(weights)
    table = torch.zeros_like(tensors["bert.embeddings.word_embeddings.weight"])
    save_file({**tensors, "embeddings.word_embeddings.weight": table}, weights)
    with pytest.raises(CheckpointError, match="twice, under two names"):
        bertnli.load(tmp_path / "m", "torch")


def test_a_file_of_weights_stands_for_its_folder(
    backend: Backend, classified: tuple[Path, Any], tmp_path: Path
) -> None:
    assert backend.load(classified[0] / "model.safetensors").labels == tuple(LABELS)
    shutil.copytree(classified[0], tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(classified[1].state_dict(), tmp_path / "m" / "pytorch_model.bin")
    assert backend.load(tmp_path / "m" / "pytorch_model.bin").labels == tuple(LABELS)


def test_damaged_folders_are_errors(classified: tuple[Path, Any], tmp_path: Path) -> None:
    shutil.copytree(classified[0], tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:100], whole[:-5], b"\xff" * 200):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="safetensors"):
            bertnli.load(tmp_path / "m", "torch")
    weights.unlink()
    with pytest.raises(CheckpointError, match="neither"):
        bertnli.load(tmp_path / "m", "torch")
    weights.write_bytes(whole)
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        bertnli.load(tmp_path / "m", "torch")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_open(
    classified: tuple[Path, Any], tmp_path: Path, dtype: torch.dtype
) -> None:
    folder, model = classified
    shutil.copytree(folder, tmp_path / "m")
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(dtype).save_pretrained(tmp_path / "m")
    arrays = load_checkpoint(tmp_path / "m").arrays
    for name, array in bertnli.load(folder, "torch").arrays().items():
        expected = torch.from_numpy(array.copy()).to(dtype).float().numpy()
        assert np.array_equal(arrays[name].astype(np.float32), expected), name


def test_what_we_write_opens_there(
    backend: Backend, classified: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, model = classified
    net = backend.load(folder)
    huggingface.write_model(tmp_path / "m", net.arrays(), net.config, net.vocab, net.labels)
    back = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()
    assert list(back.config.id2label.values()) == LABELS
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert np.array_equal(their_logits(back, tmp_path / "m"), their_logits(model, folder))
    with pytest.raises(CheckpointError, match="not empty"):
        huggingface.write_model(folder, net.arrays(), net.config, net.vocab, net.labels)


def test_the_book_s_architecture_is_refused(tmp_path: Path) -> None:
    nli = bertnli.get_backend("torch")
    vocab = WordPieceVocab.from_pieces(PIECES)
    bert = nli.BERTModel(len(vocab), 8, 12, 2, 1, 0.0, 16, vocab=vocab)
    net = nli.BERTClassifier(bert)
    with pytest.raises(CheckpointError, match=r"normalises the sum.*--to torch, mxnet or b"):
        huggingface.write_model(tmp_path, net.arrays(), net.config, vocab, net.labels)


def test_our_own_format_keeps_it(
    both: tuple[Backend, Backend], classified: tuple[Path, Any], tmp_path: Path
) -> None:
    ours, theirs = both
    net = ours.load(classified[0])
    net.save(tmp_path / "native")
    again = theirs.load(tmp_path / "native")
    assert again.config == net.config
    assert np.abs(our_logits(again) - our_logits(net)).max() <= 1e-5
    for name, array in again.arrays().items():
        assert np.array_equal(array, net.arrays()[name])
    with pytest.raises(CheckpointError, match="left as it is"):
        net.save(classified[0])


def test_fine_tuning_starts_from_it(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(transformers.BertModel, tmp_path / "hf")
    rows = ["sentence1\tsentence2\tgold_label"]
    for i in range(24):
        words = ("man", "dog", "the")[i % 3]
        rows.append(f"A {words} is in.\tThe {words} runs.\t{bertnli.LABELS[i % 3]}")
    (tmp_path / "t.tsv").write_text("\n".join(rows) + "\n")
    data = ["--train", str(tmp_path / "t.tsv"), "--dev", str(tmp_path / "t.tsv")]
    argv = ["train", *data, "--pretrained", str(tmp_path / "hf"), "--backend", backend.name]
    argv += ["--epochs", "12", "--batch-size", "8", "--lr", "3e-3", "--dropout", "0"]
    assert main([*argv, "--devices", "cpu", "--output", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["dev_accuracy"] > 0.9
    net = backend.load(tmp_path / "run")
    assert net.config.embedding_norm
    assert isinstance(net.vocab, WordPieceVocab)


def test_steps_are_those_of_transformers(backend: Backend, classified: tuple[Path, Any]) -> None:
    """Adam on transformers' own model, without dropout, against our trainer."""
    folder, model = classified
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.eval()  # no dropout
    net = backend.load(folder)
    no_dropout = {**net.config.to_dict(), "dropout": 0.0}
    plain = backend.BERTClassifier(backend.BERTModel(**no_dropout), net.labels)
    plain.load_arrays(net.arrays(), "the test")
    trainer = backend.Trainer(plain, devices="cpu")
    optimizer = torch.optim.Adam(copy.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    lens = rng.integers(3, 20, 8).astype(np.int32)
    ids, segments = rng.integers(5, 60, (8, 20)), rng.integers(0, 2, (8, 20))
    labels = rng.integers(0, 3, 8)
    batch = Batch(ids.astype("i4"), segments.astype("i4"), lens, labels.astype("i4"))
    for _ in range(10):
        loss = copy(
            input_ids=torch.from_numpy(ids),
            token_type_ids=torch.from_numpy(segments),
            attention_mask=torch.from_numpy((np.arange(20) < lens[:, None]).astype(np.int64)),
            labels=torch.from_numpy(labels),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found, _ = trainer.train_step(batch, 1e-3, 0).read()
        assert abs(found / 8 - loss.item()) <= 1e-4


def test_no_framework_is_needed(classified: tuple[Path, Any]) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'mxnet', 'transformers'): sys.modules[name] = None\n"
        "from bertnli.formats.load import load_classifier\n"
        f"found = load_classifier({str(classified[0])!r})\n"
        "print(len(found.arrays), found.labels[0])\n"
        "from bertnli.cli import main\n"
        f"main(['info', {str(classified[0])!r}])\n"
    )
    out = processes.run([sys.executable, "-c", code])
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("57 NEUTRAL\n")
    assert "Hugging Face BERT" in out.stdout
    assert "labels: NEUTRAL, ENTAILMENT, CONTRADICTION" in out.stdout


def test_a_pretrained_model_keeps_its_dropout(tmp_path: Path) -> None:
    make(transformers.BertModel, tmp_path / "m", hidden_dropout_prob=0.25)
    assert load_checkpoint(tmp_path / "m").config.dropout == 0.25


def test_a_folder_of_the_user_s_is_not_replaced(
    classified: tuple[Path, Any], tmp_path: Path
) -> None:
    net = bertnli.load(classified[0], "torch")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text('{"a": 1, // mine')
    with pytest.raises(CheckpointError, match="left as it is"):
        net.save(tmp_path / "mine")
    net.save(tmp_path / "ours")
    net.save(tmp_path / "ours")
    (tmp_path / "ours" / "thesis.txt").write_text("everything")
    with pytest.raises(CheckpointError, match="left as it is"):
        net.save(tmp_path / "ours")
    assert (tmp_path / "ours" / "thesis.txt").read_text() == "everything"


# Word pieces


CASED = "A Man is runNING: É, 中文!"


@pytest.mark.parametrize("lowercase", [True, False])
def test_what_we_write_cuts_alike_there(tmp_path: Path, lowercase: bool) -> None:
    config = BERTConfig(len(PIECES), 8, 12, 2, 1, 0.1, 32, "gelu", True, 1e-12)
    vocab = WordPieceVocab.from_pieces(PIECES, lowercase)
    nli = bertnli.get_backend("torch")
    net = nli.BERTClassifier(nli.BERTModel(**config.to_dict(), vocab=vocab))
    huggingface.write_model(tmp_path / "m", net.arrays(), config, vocab, net.labels)
    (found,) = vocab.ids_of([CASED], tokenized=False)
    for fast in (True, False):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", use_fast=fast)
        assert tokenizer(CASED, add_special_tokens=False)["input_ids"] == found


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("beside", [True, False, None])
def test_settings_beside_a_tokenizer_win_as_there(
    tmp_path: Path, inside: bool, beside: bool | None
) -> None:
    WordPieceVocab.from_pieces(PIECES, inside).save(tmp_path / "tokenizer.json")
    settings = {"tokenizer_class": "BertTokenizer"}
    settings |= {} if beside is None else {"do_lower_case": beside}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    vocab = load_vocab(tmp_path)
    assert vocab is not None
    (found,) = vocab.ids_of([CASED], tokenized=False)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(CASED, add_special_tokens=False)["input_ids"] == found


def test_lines_of_vocab_txt_end_with_newlines_alone(tmp_path: Path) -> None:
    pieces = [*SPECIAL.values(), "q\u2028r", "\x85", "hello"]
    (tmp_path / "vocab.txt").write_text("\r\n".join(pieces) + "\r\n\n", encoding="utf-8")
    vocab = load_vocab(tmp_path)
    assert vocab is not None
    assert vocab.idx_to_token == pieces


def test_tokens_added_beside_vocab_txt_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text('{"<ent>": 90}')
    with pytest.raises(DataError, match="<ent>"):
        load_vocab(tmp_path)


@pytest.mark.parametrize("text", ["5", "[1]", "{", '{"strip_accents": "x"}'])
def test_settings_that_are_none_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(DataError, match="tokenizer_config"):
        load_vocab(tmp_path)


@settings(deadline=None, max_examples=100)
@given(st.text(LETTERS, max_size=60), st.booleans())
def test_vocab_txt_is_cut_as_transformers_cuts(
    tmp_path_factory: pytest.TempPathFactory, text: str, lowercase: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"vocab-{lowercase}"
    if not folder.exists():
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    slow = transformers.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lowercase)
    vocab = load_vocab(folder)
    assert vocab is not None
    (found,) = vocab.ids_of([text], tokenized=False)
    assert found == slow(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


#: What a tokenizer_config.json may say, wrong and right.
SETTINGS = {
    "do_lower_case": [True, False],
    "strip_accents": [True, False, None],
    "tokenize_chinese_chars": [True, False],
    "do_basic_tokenize": [True, False],
    "never_split": [None, ["[CLS]"], ["man"]],
    "cls_token": ["[CLS]", "a"],
    "sep_token": ["[SEP]", "."],
    "unk_token": ["[UNK]", "a"],
    "pad_token": ["[PAD]", "[UNK]"],
    "tokenizer_class": ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None],
    "additional_special_tokens": [[], ["man"], ["<new>"]],
    "split_special_tokens": [True, False],
    "clean_text": [True, False],
}


@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans(), st.booleans())
def test_any_settings_cut_as_transformers_cuts_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, defined: bool, inside: bool
) -> None:
    folder = tmp_path_factory.mktemp("settings")
    if defined:
        WordPieceVocab.from_pieces(PIECES, inside).save(folder / "tokenizer.json")
    else:
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    names = data.draw(st.sets(st.sampled_from(sorted(SETTINGS)), max_size=4))
    chosen = {name: data.draw(st.sampled_from(SETTINGS[name])) for name in sorted(names)}
    (folder / "tokenizer_config.json").write_text(json.dumps(chosen))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    try:
        vocab = load_vocab(folder)
    except DataError:
        return
    assert vocab is not None
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (CASED, "the man [SEP] dog."):
        a, b = vocab.ids_of([text, "A dog"], tokenized=False)
        ends = vocab.required("<cls>"), vocab.required("<sep>")
        pair = [ends[0], *a, ends[1], *b, ends[1]]
        assert theirs(text, "A dog")["input_ids"] == pair


def test_sentences_of_a_treebank_become_text() -> None:
    vocab = WordPieceVocab.from_pieces(PIECES)
    parsed = ["A man -LRB- a dog -RRB- .", "The man 's dog is n't `` in '' ."]
    texts = ["A man (a dog).", "The man's dog isn't \" in \" ."]
    assert [*vocab.ids_of(parsed, tokenized=True)] == [*vocab.ids_of(texts, tokenized=False)]


def test_special_tokens_have_the_book_s_names() -> None:
    vocab = WordPieceVocab.from_pieces(PIECES)
    assert [vocab.required(name) for name in SPECIAL] == list(range(5))
    corpus = Corpus(["A man"], ["dog"], [0], tokenized=False)
    dataset = bertnli.get_backend("torch").SNLIBERTDataset(corpus, 16, vocab, verbose=False)
    assert vocab.to_tokens(dataset.token_ids) == ["[CLS]", "a", "man", "[SEP]", "dog", "[SEP]"]
    with pytest.raises(DataError, match=r"\[MASK\]"):
        WordPieceVocab.from_pieces(["[UNK]", "[PAD]", "[CLS]", "[SEP]"])
