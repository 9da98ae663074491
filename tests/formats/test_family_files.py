"""The files of transformers' families: what it wrote opens here, and what we write opens there."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hf_models import FAMILIES, NAMED, PIECES, make_model, peer_inputs
from refusals import refused
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

import bertnli
from bertnli.data.batches import Batch
from bertnli.errors import CheckpointError
from bertnli.formats.convert import convert
from bertnli.formats.load import load_checkpoint
from bertnli.formats.native import save_native

#: Model type to the classes of a model without a classifier.
PRETRAINED = {
    **dict.fromkeys(FAMILIES, ("Model", "ForMaskedLM")),
    "electra": ("Model", "ForPreTraining", "ForMaskedLM"),
}
KINDS = [(family, kind) for family, kinds in PRETRAINED.items() for kind in kinds]
PAIRS = [("a man is", "the dog, is it?"), ("dogs", "a man"), ("man " * 40, "it is a dog " * 9)]


@pytest.fixture(scope="module", params=FAMILIES)
def classified(request, tmp_path_factory):
    """Write a classifier of a family; return its folder and transformers' model."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return folder, make_model(request.param, folder, **NAMED)


def batch_of(lengths, width=12):
    rng = np.random.default_rng(3)
    ids, lens = rng.integers(2, len(PIECES), (len(lengths), width)), np.array(lengths)
    segments = np.arange(width) >= lens[:, None] // 2
    return Batch(*(a.astype("i4") for a in (ids, segments, lens, np.zeros(len(lengths)))))


def peer_logits(model, folder):
    """Compute the logits of the pairs with a model and a tokenizer of transformers'."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    max_length = load_checkpoint(folder).encoding.max_len
    how = {"padding": True, "truncation": "longest_first", "max_length": max_length}
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), **how, return_tensors="pt")
    inputs = {k: v for k, v in inputs.items() if k in tokenizer.model_input_names}
    with torch.no_grad():
        return model(**inputs).logits.numpy()


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_a_pretrained_model_opens(backend, loop, family, kind, tmp_path):
    model = make_model(family, tmp_path, kind)
    bert, _ = backend.load_pretrained_model(tmp_path, dropout=0.0)
    batch, positions = batch_of([12, 5, 1, 9]), np.tile(np.arange(12, dtype="i4"), (4, 1))
    with loop.scope():
        outputs = bert(*map(loop.tensor, (*batch.inputs(), positions)))
    encoded, mlm_logits = (loop.array(tensor) for tensor in outputs[:2])
    with torch.no_grad():
        expected = model(**peer_inputs(model, batch), output_hidden_states=True)
    seen = np.arange(12) < batch.valid_lens[:, None]
    last = expected.hidden_states[-1].numpy()
    assert np.abs(encoded - last)[seen].max() <= 1e-5
    if kind == "ForMaskedLM" and family != "electra":
        assert np.abs(mlm_logits - expected.logits.numpy())[seen].max() <= 1e-4


def test_shards_and_half_precision(classified, tmp_path):
    folder, model = classified
    whole = load_checkpoint(folder)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "shards" / name).write_bytes((folder / name).read_bytes())
    arrays = load_checkpoint(tmp_path / "shards").arrays
    assert {*arrays} == {*whole.arrays}
    assert all(np.array_equal(array, whole.arrays[name]) for name, array in arrays.items())
    for dtype in (torch.float16, torch.bfloat16):
        state = {k: v.to(dtype) for k, v in load_file(folder / "model.safetensors").items()}
        (tmp_path / "shards" / "model.safetensors.index.json").unlink(missing_ok=True)
        save_file(state, tmp_path / "shards" / "model.safetensors", {"format": "pt"})
        halves = load_checkpoint(tmp_path / "shards").arrays
        for name, array in halves.items():
            rounded = torch.from_numpy(np.array(whole.arrays[name])).to(dtype).float().numpy()
            assert np.array_equal(array.astype("f4"), rounded), name


def test_the_way_round_changes_nothing(backend, classified, tmp_path):
    """Hugging Face -> ours -> MXNet -> ours -> Hugging Face, which transformers' classes open."""
    folder, model = classified
    convert(folder, tmp_path / "a", "bertnli")
    convert(tmp_path / "a", tmp_path / "b", "mxnet")
    backend.load(tmp_path / "b").save(tmp_path / "c")
    convert(tmp_path / "c", tmp_path / "d", "huggingface")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "d"))
    assert {*before} == {*after}
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "d").eval()
    assert type(again) is type(model)
    expected = peer_logits(model, folder)
    assert np.array_equal(peer_logits(again, tmp_path / "d"), expected)
    scores = CrossEncoder(str(tmp_path / "d"), device="cpu").predict(PAIRS)
    assert np.abs(scores - expected).max() <= 1e-6
    net = backend.load(tmp_path / "d")
    ours = [[p.probabilities[name] for name in net.labels] for p in net.predict(PAIRS)]
    assert np.abs(ours - torch.softmax(torch.from_numpy(expected), 1).numpy()).max() <= 1e-5


def test_what_we_write_says_the_dropouts(classified, tmp_path):
    folder, _ = classified
    path = folder / "config.json"
    described = json.loads(path.read_text())
    changed = dict(described)
    for key in described:
        if "dropout" in key and "qa" not in key and "summary" not in key:
            changed[key] = {"h": 0.05, "a": 0.15}.get(key[0], 0.25)
    path.write_text(json.dumps(changed))
    convert(folder, tmp_path / "new", "huggingface")
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    path.write_text(json.dumps(described))
    for key in changed:
        if "dropout" in key and "qa" not in key and "summary" not in key:
            assert written[key] == changed[key], key


def test_an_old_classifier_has_an_unused_pooler(tmp_path):
    """Versions 2 and 3 of transformers wrote the pooler of RoBERTa beside the classifier."""
    model = make_model("roberta", tmp_path, **NAMED)
    before = load_checkpoint(tmp_path).arrays
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["roberta.pooler.dense.weight"] = torch.zeros(32, 32)
    state["roberta.pooler.dense.bias"] = torch.zeros(32)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    after = load_checkpoint(tmp_path).arrays
    assert {*before} == {*after}
    assert np.array_equal(before["hidden.weight"], after["hidden.weight"])


def test_cross_encoders(classified, tmp_path):
    folder, _ = classified
    CrossEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "ce"))
    net, plain = bertnli.load(tmp_path / "ce", "torch"), bertnli.load(folder, "torch")
    assert net.labels == plain.labels
    assert net.predict(PAIRS) == plain.predict(PAIRS)


@pytest.mark.parametrize("place", ["own file", "version 4", "version 2"])
def test_a_cross_encoder_of_independent_classes_is_refused(tmp_path, place):
    make_model("roberta", tmp_path, **NAMED)
    sigmoid = "torch.nn.modules.activation.Sigmoid"
    own = tmp_path / "config_sentence_transformers.json"
    if place == "own file":
        own.write_text(json.dumps({"activation_fn": sigmoid}))
    else:
        key = "sbert_ce_default_activation_function"
        entry = {"sentence_transformers": {"activation_fn": sigmoid}}
        described = json.loads((tmp_path / "config.json").read_text())
        described |= entry if place == "version 4" else {key: sigmoid}
        (tmp_path / "config.json").write_text(json.dumps(described))
    refused(CheckpointError, "Sigmoid.*one is right", bertnli.load, tmp_path, "torch")


def test_what_a_family_cannot_say_is_refused(backend, tmp_path):
    make_model("distilbert", tmp_path / "m", "ForMaskedLM")
    bert, vocab = backend.load_pretrained_model(tmp_path / "m", devices="cpu")
    arrays = bert.arrays()
    save_native(tmp_path / "same", arrays, bert.config, None, vocab)
    convert(tmp_path / "same", tmp_path / "a", "huggingface")
    arrays["nsp.output.bias"] = arrays["nsp.output.bias"] + 1
    save_native(tmp_path / "nsp", arrays, bert.config, None, vocab)
    to = (tmp_path / "b", "huggingface")
    refused(CheckpointError, "nsp.output.bias.*--to torch", convert, tmp_path / "nsp", *to)
    net = backend.BERTClassifier(bert)
    net.config = replace(bert.config, pooler_activation="tanh")
    net.save(tmp_path / "tanh")
    words = "distilbert cannot say pooler_activation='tanh'"
    refused(CheckpointError, words, convert, tmp_path / "tanh", *to)


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("electra", {"type_vocab_size": 3}, "type_vocab_size"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "relative_buckets"),
        ("roberta", {"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ("distilbert", {"activation": "silu"}, "activation is 'silu'"),
        ("roberta", {"model_type": "xlm-roberta-xl"}, "xlm-roberta-xl.*camembert"),
        ("roberta", {"type_vocab_size": 5}, "num_segments is 5"),
        ("deberta-v2", {"model_type": "deberta"}, "type 'deberta', and of"),
        ("deberta-v2", {"relative_attention": None}, "relative_attention is None"),
        ("deberta-v2", {"position_biased_input": True}, "position_biased_input is True"),
        ("deberta-v2", {"share_att_key": False}, "share_att_key is False"),
        ("deberta-v2", {"pos_att_type": "c2p"}, "pos_att_type is 'c2p'"),
        ("deberta-v2", {"pos_att_type": ["p2c", "p2c"]}, "pos_att_type"),
        ("deberta-v2", {"pos_att_type": ["p2c", 1]}, "not supported"),
        ("deberta-v2", {"norm_rel_ebd": "none"}, "norm_rel_ebd is 'none'"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size is 3"),
        ("deberta-v2", {"position_buckets": -1}, "position_buckets is -1"),
        ("deberta-v2", {"position_buckets": 16}, "position_buckets is 16, and 8 by the tensors"),
        ("deberta-v2", {"max_relative_positions": 32}, "max_relative_positions is 32"),
        ("deberta-v2", {"embedding_size": 16}, "embedding_size is 16"),
        ("deberta-v2", {"attention_head_size": 16}, "attention_head_size is 16, and only 8"),
        ("deberta-v2", {"pooler_hidden_act": "tanh"}, "pooler_hidden_act is 'tanh'"),
        ("deberta-v2", {"type_vocab_size": 2}, "type_vocab_size is 2"),
        ("deberta-v2", {"hidden_size": "32"}, "unsupported operand"),
    ],
)
def test_settings_that_are_not_computed(tmp_path, family, settings, words):
    make_model(family, tmp_path, **NAMED)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    refused(CheckpointError, words, bertnli.load, tmp_path, "torch")


@pytest.mark.parametrize(
    "name", ["relative_attention", "position_biased_input", "share_att_key", "pos_att_type"]
)
def test_what_deberta_assumes_is_not_ours(tmp_path, name):
    """Without these entries transformers computes another model than DeBERTa-v3."""
    make_model("deberta-v2", tmp_path, **NAMED)
    path = tmp_path / "config.json"
    described = json.loads(path.read_text())
    del described[name]
    path.write_text(json.dumps(described))
    refused(CheckpointError, f"{name} is .*only", bertnli.load, tmp_path, "torch")


def test_deberta_s_config_as_its_authors_write_it(tmp_path):
    make_model("deberta-v2", tmp_path, **NAMED)
    before, path = load_checkpoint(tmp_path).config, tmp_path / "config.json"
    described = json.loads(path.read_text())
    described |= {"pos_att_type": "p2c|c2p", "max_relative_positions": 64, "pooler_hidden_size": 32}
    del described["layer_norm_eps"], described["pooler_dropout"]
    path.write_text(json.dumps(described))
    assert load_checkpoint(tmp_path).config == before
    assert before.norm_eps == 1e-7


def test_deberta_s_other_heads_are_left_out(tmp_path):
    """Microsoft's files have two heads of its pretraining."""
    make_model("deberta-v2", tmp_path, "Model")
    state = load_file(tmp_path / "model.safetensors")
    names = ("lm_predictions.lm_head.bias", "mask_predictions.classifier.bias")
    state |= {name: torch.zeros(3) for name in names}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    assert not [name for name in load_checkpoint(tmp_path).arrays if "predictions" in name]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "electra"])
@pytest.mark.parametrize("reads", [True, False])
def test_the_tokenizer_says_whether_segments_are_read(backend, family, reads, tmp_path):
    """RoBERTa reads those of a tokenizer that gives them, and BERT none of one that does not."""
    model = make_model(family, tmp_path, **{**NAMED, "type_vocab_size": 2})
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if reads else [])]
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_input_names": inputs}))
    net = backend.load(tmp_path)
    assert net.config.pair_segments == reads
    expected = torch.softmax(torch.from_numpy(peer_logits(model, tmp_path)), 1).numpy()
    ours = [[p.probabilities[name] for name in net.labels] for p in net.predict(PAIRS)]
    assert np.abs(ours - expected).max() <= 1e-5
    convert(tmp_path, tmp_path / "new", "huggingface")
    assert load_checkpoint(tmp_path / "new").config == net.config


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "electra"])
def test_an_untied_mlm_head_goes_there_and_back(family, tmp_path):
    model = make_model(family, tmp_path / "m", "ForMaskedLM", tie_word_embeddings=False)
    convert(tmp_path / "m", tmp_path / "new", "huggingface")
    again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "new").eval()
    inputs = peer_inputs(model, batch_of([12, 5, 9]))
    with torch.no_grad():
        apart = (model(**inputs).logits - again(**inputs).logits).abs().max()
    assert apart <= 1e-6


def test_transformers_5_gives_no_segments_by_itself(tmp_path):
    model = make_model("bert", tmp_path, **NAMED)
    path = tmp_path / "tokenizer_config.json"
    described = json.loads(path.read_text()) | {"tokenizer_class": "TokenizersBackend"}
    del described["model_input_names"]
    path.write_text(json.dumps(described))
    net = bertnli.load(tmp_path, "torch")
    assert not net.config.pair_segments
    expected = torch.softmax(torch.from_numpy(peer_logits(model, tmp_path)), 1).numpy()
    ours = [[p.probabilities[name] for name in net.labels] for p in net.predict(PAIRS)]
    assert np.abs(ours - expected).max() <= 1e-5


def test_a_net_s_own_file_opens_beside_the_folder_s(classified, tmp_path):
    folder, _ = classified
    net = bertnli.load(folder, "torch")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(net.state_dict(), tmp_path / "net.pt")
    again = bertnli.load(tmp_path / "net.pt", "torch", labels=net.labels)
    assert again.config == net.config
    assert again.predict(PAIRS) == net.predict(PAIRS)


def test_fine_tuning_has_the_checkpoint_s_dropout(backend, tmp_path):
    how = {"hidden_dropout_prob": 0.07, "attention_probs_dropout_prob": 0.13}
    make_model("roberta", tmp_path, "Model", classifier_dropout=0.31, **how)
    config = backend.load_pretrained_model(tmp_path, devices="cpu")[0].config
    assert (config.dropout, config.attention_dropouts[0]) == (0.07, 0.13)
    assert config.classifier_dropout == config.pooler_dropout == 0.31


@pytest.mark.parametrize("kind", ["ForQuestionAnswering", "ForTokenClassification"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_of_another_task_opens(family, kind, tmp_path):
    make_model(family, tmp_path, kind)
    nli = bertnli.get_backend("torch")
    bert, _ = nli.load_pretrained_model(tmp_path, devices="cpu")
    assert bert.config.family == family
