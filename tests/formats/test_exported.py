"""Nets that gluon exported, from GluonNLP and a hybrid version of the book's: the same numbers.

GluonNLP's export is made by `benchmarks/gluonnlp_models.py --write`.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hybrid_nets import T, V, hybrid_net
from refusals import refused

from bertnli.data.batches import Batch
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.load import load_checkpoint, load_classifier
from bertnli.formats.params import read_params, write_params
from bertnli.text.vocab import RESERVED_TOKENS, UNKNOWN, Vocab

FIXTURES = Path(__file__).parent.parent / "fixtures"
CLASSES = ("neutral", "entailment", "contradiction")


@pytest.fixture
def snli(tmp_path):
    """Copy GluonNLP's export and the vocabulary into a folder; return the path of its tensors."""
    for file in [*(FIXTURES / "exported").iterdir(), *(FIXTURES / "gluonnlp").glob("*.vocab")]:
        shutil.copy(file, tmp_path)
    return tmp_path / "snli-0000.params"


def symbol_of(path):
    return path.with_name(re.sub(r"\d+\.params", "symbol.json", path.name))


def tensors(path):
    """Read a file's tensors into memory of their own, so that it can be written anew."""
    return {name: array.copy() for name, array in read_params(path).items()}


def apart(one, other):
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


def test_an_export_of_gluonnlp(backend, snli):
    with np.load(FIXTURES / "gluonnlp" / "golden.npz") as golden:
        rows = (golden["token_ids"], golden["segments"], golden["valid_lens"])
        batch = Batch(*rows, np.zeros(len(rows[0]), np.int32))
        net = backend.load(snli, "cpu", CLASSES)  # the graph tells the number of heads
        assert net.config.num_heads == 4
        assert apart(net.logits(batch), golden["logits"]) <= 1e-5


def test_without_the_graph_names_suffice_but_for_the_heads(snli):
    refused(CheckpointError, "does not name its classes", load_classifier, snli)
    with_graph = load_classifier(snli, CLASSES)
    symbol_of(snli).unlink()
    refused(ConfigError, "num_heads", load_classifier, snli, CLASSES)
    without = load_classifier(snli.parent, CLASSES, num_heads=4)
    assert without.config == with_graph.config
    # The same tensors as those of the file in which GluonNLP saved them.
    path = FIXTURES / "gluonnlp" / "model_bert_SNLI_0.params"
    saved = load_classifier(path, CLASSES, num_heads=4)
    assert {*saved.arrays} == {*without.arrays} == {*with_graph.arrays}
    assert all(np.array_equal(saved.arrays[n], with_graph.arrays[n]) for n in saved.arrays)


def test_the_heads_of_roberta_and_of_pretraining(snli):
    """The names are those of exports, which a prefix of gluon's distinguishes."""
    symbol_of(snli).unlink()
    gone = re.compile("token_type|pooler")
    arrays = {n: array for n, array in tensors(snli).items() if not gone.search(n)}
    arrays = {re.sub(r"bertmodel\d", "robertamodel0", n): array for n, array in arrays.items()}
    head = {"weight": np.zeros((32, 32), np.float32), "bias": np.zeros(32, np.float32)}
    for leaf, array in head.items():
        arrays[f"robertaclassifier0_dense1_{leaf}"] = arrays.pop(f"bertclassifier0_dense0_{leaf}")
        arrays[f"robertaclassifier0_dense0_{leaf}"] = array
    write_params(snli, arrays)
    roberta = load_classifier(snli, CLASSES, num_heads=4)
    assert roberta.config.family == "roberta" and not roberta.arrays["hidden.weight"].any()
    arrays = {n: a for n, a in arrays.items() if "classifier" not in n}
    arrays |= {f"robertamodel0_dense0_{leaf}": array for leaf, array in head.items()}
    norm = {"gamma": np.ones(32, np.float32), "beta": np.zeros(32, np.float32)}
    arrays |= {f"robertamodel0_layernorm0_{leaf}": array for leaf, array in norm.items()}
    words = len(arrays["robertamodel0_word_embed_embedding0_weight"])
    arrays["robertamodel0_word_embed_embedding0_bias"] = np.zeros(words, np.float32)
    write_params(snli, arrays)
    started = load_checkpoint(snli, num_heads=4).started
    assert {name.split(".")[0] for name in started} == {"hidden", "nsp"}


def changed(path, change):
    """Change each node of a graph."""
    described = json.loads(symbol_of(path).read_text())
    for node in described["nodes"]:
        change(node, node.setdefault("attrs", {}))
    symbol_of(path).write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("op", "setting", "message"),
    [
        ("LeakyReLU", {"act_type": "elu"}, "activation is 'elu'"),
        ("_contrib_interleaved_matmul_selfatt_qk", {"heads": "5"}, "heads"),
        ("LayerNorm", {"eps": "x"}, "could not convert"),
        ("slice", {"begin": "(0, 1, 0)"}, "between its layers"),
        ("elemwise_add", "elemwise_mul", "between its layers"),
        ("LayerNorm", "InstanceNorm", "not the graph of a BERT"),
        ("FullyConnected", "null", "not the graph of a BERT"),
    ],
)
def test_a_graph_of_something_else(snli, op, setting, message):
    def change(node, attrs):
        if node["op"] == op and isinstance(setting, dict):
            attrs |= setting
        elif node["op"] == op:
            node["op"] = setting

    changed(snli, change)
    refused(CheckpointError, message, load_classifier, snli, CLASSES)


def test_layers_that_differ(snli):
    def change(node, attrs):
        if node["op"] == "LayerNorm" and "transformer1" in node["name"]:
            attrs["eps"] = "1e-3"

    changed(snli, change)
    refused(CheckpointError, "layers differ: norm_eps is", load_classifier, snli, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "'nodes'"),
        ('{"nodes": []}', "no nodes"),
        ('{"nodes": [{"op": "null", "name": "a", "inputs": [[0, 0, 0]]}]}', "not come after"),
        ('{"nodes": [{"op": "null"', "cut off"),
        ('{"nodes": [{"op": "null", "inputs": 1}]}', "no graph of MXNet"),
    ],
)
def test_a_damaged_graph(snli, text, message):
    symbol_of(snli).write_text(text)
    refused(CheckpointError, message, load_classifier, snli, CLASSES)


def test_an_unknown_tensor(snli):
    arrays, more = tensors(snli), np.zeros((32, 32), np.float32)
    write_params(snli, arrays | {"bertmodel0_extra_weight": more})
    refused(
        CheckpointError,
        "no encoder of its kind has the tensors bertmodel0_extra",
        load_classifier,
        snli,
    )
    write_params(snli, arrays | {"x_pooler_weight": more})
    refused(CheckpointError, "same place", load_classifier, snli)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, (2, T)).astype(np.int32)
    segments = np.repeat([[0, 0, 0, 1, 1, 1, 1]], 2, axis=0).astype(np.int32)
    return Batch(tokens, segments, np.array([T, 5], np.int32), np.zeros(2, np.int32))


def export(folder, batch, is_book, **options):
    """Export a net whose names only count layers, beside a vocabulary.

    Returns:
        The path of its tensors, and the logits that MXNet computes.
    """
    from bertnli.backends.mxnet._framework import mx

    words = [UNKNOWN, *RESERVED_TOKENS, *(f"w{i}" for i in range(V))][:V]
    Vocab.from_list(words).save(folder / "vocab.json")
    with mx.util.np_shape(is_book), mx.util.np_array(is_book):
        array = mx.np.array if is_book else mx.nd.array
        inputs = [array(a, dtype="int32") for a in (batch.token_ids, batch.segments)]
        inputs.append(array(batch.valid_lens, dtype="float32"))
        mx.random.seed(0)
        net = hybrid_net(mx, is_book, **options)
        net.initialize(mx.init.Normal(0.3))
        net.hybridize()
        logits = net(*inputs).asnumpy()
        net.export(str(folder / "net"), epoch=3)
    return folder / "net-0003.params", logits


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize("is_book", [True, False])
def test_a_net_whose_names_only_count_layers(backend, tmp_path, batch, is_book):
    path, logits = export(tmp_path, batch, is_book)
    assert {"dense0_weight", "layernorm0_gamma"} <= {
        re.sub(r"\d+", "0", n) for n in read_params(path)
    }
    net = backend.load(path, "cpu", CLASSES)
    assert apart(net.logits(batch), logits) <= 1e-5
    assert np.ptp(logits, axis=0).min() > 1e-3
    config = net.config
    told = (config.num_heads, config.activation, config.norm_eps, config.embedding_norm)
    assert told == ((4, "relu", 1e-5, False) if is_book else (4, "gelu", 1e-6, True))
    assert net.config.max_len == 9


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pre_norm": True}, "not the sum of a layer's input and output"),
        ({"scaled": False}, "not divided by the square root"),
        ({"is_mean": True}, "_npi_mean.*between its layers"),
        ({"scale": 4.0}, "scalar.*between its layers"),
    ],
)
def test_other_nets_are_refused(tmp_path, batch, options, message):
    path, _ = export(tmp_path, batch, True, **options)
    refused(CheckpointError, message, load_classifier, path, CLASSES)


@pytest.mark.needs("mxnet")
def test_such_a_net_needs_its_graph(tmp_path, batch):
    path, _ = export(tmp_path, batch, True)
    stored = tensors(path)
    write_params(path, stored | {"dense9999_weight": np.zeros((2, 2), np.float32)})
    refused(CheckpointError, "does not use dense9999", load_classifier, path, CLASSES)
    symbol_of(path).rename(tmp_path / "other-symbol.json")
    refused(CheckpointError, "put net-symbol.json beside it", load_classifier, path, CLASSES)
