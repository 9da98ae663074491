"""The two backends agree, and arguments have their effects on each of them."""

import json
from itertools import permutations

import numpy as np
import pytest
from small_nets import classifier, with_options

import bertnli
from bertnli import parity
from bertnli.bert.config import PRESETS, BERTConfig
from bertnli.bert.parameters import bert_shapes
from bertnli.data.packing import pack
from bertnli.errors import CheckpointError, ConfigError

SENTENCES = [
    "a man is asleep",
    "A man is awake.",
    "two dogs run on the grass",
    "it is raining",
    "?",
]
PAIRS = list(permutations(SENTENCES, 2))


def same(arrays, others):
    """Compare two sets of tensors bit by bit."""
    return set(arrays) == set(others) and all(
        array.dtype == others[name].dtype
        and array.shape == others[name].shape
        and array.tobytes() == others[name].tobytes()
        for name, array in arrays.items()
    )


def datasets(nli, vocab, fixtures):
    return [
        nli.SNLIBERTDataset(bertnli.read(fixtures / "snli_1.0", split), 48, vocab, verbose=False)
        for split in ("train", "test")
    ]


@pytest.mark.parametrize("reverse", [False, True], ids=["torch to mxnet", "mxnet to torch"])
def test_a_checkpoint_of_one_backend_loads_on_the_other(both, goldens, fixtures, tmp_path, reverse):
    first, second = both[::-1] if reverse else both
    net = goldens[first.name].net(first)
    train_set, test_set = datasets(first, net.vocab, fixtures)
    trainer = first.Trainer(net, lr=1e-3, devices="cpu")
    trainer.fit(train_set, num_epochs=2, batch_size=6, progress=False)
    net.save(tmp_path / "net")
    loaded = second.load(tmp_path / "net", "cpu")
    assert same(loaded.arrays(), net.arrays())
    assert (loaded.labels, loaded.config) == (net.labels, net.config)
    assert loaded.vocab.idx_to_token == net.vocab.idx_to_token
    batch = test_set.batch(np.arange(len(test_set)))
    assert parity.max_abs_difference(loaded.logits(batch), net.logits(batch)) <= 1e-5
    for a, b in zip(net.predict(PAIRS), loaded.predict(PAIRS), strict=True):
        assert a.label == b.label and a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
    loaded.save(tmp_path / "back")
    assert same(first.load(tmp_path / "back").arrays(), net.arrays())


def test_fine_tuning_changes_encoder_and_pooler_but_not_the_heads(backend, golden, fixtures):
    """The classifier shares them with the BERT that it was made from."""
    bert = golden.bert(backend)
    before = bert.arrays()
    net = backend.BERTClassifier(bert)
    train_set, _ = datasets(backend, bert.vocab, fixtures)
    trainer = backend.Trainer(net, lr=1e-3, devices="cpu")
    trainer.fit(train_set, num_epochs=1, batch_size=6, progress=False)
    after, trained = bert.arrays(), net.arrays()
    heads = [name for name in before if name.startswith(("mlm.", "nsp."))]
    assert len(heads) == 8
    assert same({k: before[k] for k in heads}, {k: after[k] for k in heads})
    shared = [name for name in before if name not in heads]
    for name in shared:  # the gradient of a key bias is zero, or noise
        assert parity.is_key_bias(name) or not np.array_equal(before[name], after[name]), name
    assert same({k: after[k] for k in shared}, {k: trained[k] for k in shared})


def test_start_values_depend_only_on_the_seed(both, tiny):
    arrays = {}
    for seed in (0, 7):
        first, second = (nli.BERTModel(**tiny.to_dict(), seed=seed).arrays() for nli in both)
        assert same(first, second)
        assert {name: array.shape for name, array in first.items()} == bert_shapes(tiny)
        np.random.seed(seed)
        nets = [classifier(nli, tiny, seed).arrays() for nli in (*both, *both)]
        assert all(same(nets[0], other) for other in nets)
        arrays[seed] = nets[0]
    drawn = [name for name, array in arrays[0].items() if len(np.unique(array)) > 1]
    assert {"output.weight", "encoder.pos_embedding", "hidden.weight"} <= set(drawn)
    assert all(not np.array_equal(arrays[0][name], arrays[7][name]) for name in drawn)


@pytest.mark.parametrize(
    ("size", "value", "parts"),
    [
        ("num_hiddens", 64, ["encoder.token_embedding.weight", "(1000, 32)", "(1000, 64)"]),
        ("num_blks", 3, ["encoder.blks.2.attention.W_q.weight"]),
    ],
)
def test_an_error_about_a_size_names_tensor_and_shapes(backend, golden, size, value, parts):
    with pytest.raises(CheckpointError) as caught:
        golden.bert(backend, **{size: value})
    for part in [*parts, "bert.tiny", f"Leave {size} out"]:
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match="num_heads"):
        golden.bert(backend, num_heads=None)


def test_a_sequence_that_is_too_long_is_an_error(backend, make_batch, tiny):
    net = classifier(backend, tiny)
    assert net.logits(make_batch(2, shortest=48, longest=48)).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"49 tokens.*48"):
        net.logits(make_batch(2, shortest=49, longest=49))


@pytest.mark.long
def test_bert_base(backend, make_batch, loop, tmp_path):
    """A model of this size is made, written as the framework writes it, and loaded."""
    tokens = [f"token{i}" for i in range(95)]
    vocab = bertnli.Vocab(tokens, reserved_tokens=["<pad>", "<mask>", "<cls>", "<sep>"])
    sizes = {**PRESETS["bert.base"], "max_len": 16}
    bert = backend.BERTModel(len(vocab), **sizes, dropout=0.1)
    loop.save(bert, tmp_path / "pretrained.params")
    (tmp_path / "vocab.json").write_text(json.dumps(vocab.idx_to_token))
    loaded, loaded_vocab = backend.load_pretrained_model(tmp_path, **sizes, dropout=0.0)
    assert loaded_vocab.idx_to_token == vocab.idx_to_token
    assert loaded.config == BERTConfig(100, 768, 3072, 12, 12, 0.0, 16)
    assert same(loaded.arrays(), bert.arrays()) and len(loaded.arrays()) == 13 + 16 * 12
    batch, net = make_batch(2, vocab_size=100, longest=16), backend.BERTClassifier(loaded)
    expected = parity.forward(net.arrays(), loaded.config, *batch.inputs()).logits
    assert parity.max_abs_difference(net.logits(batch), expected) <= 2e-5


def in_training(loop, layer, *inputs):
    """Compute a layer on arrays while training."""
    with loop.recording(layer):
        return loop.array(layer(*map(loop.tensor, inputs)))


def packed_attention(loop, layer, X):
    """Compute a layer's attention over pairs (B, T, H) on the packed path, while training."""
    layers = loop.layers
    B, T, H = X.shape
    with loop.recording(layer):
        [chunk] = pack(np.full(B, T), T)
        rows = loop.tensor(X.reshape(B * T, H)[chunk.tokens])
        groups = layers.groups(chunk, layer.num_heads, rows, None)
        heads = layers.attention(layer, [layers.project(layer, rows)], None, groups)
        return loop.array(layer.W_o(heads))[: B * T]


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_drops_its_share_and_scales_the_rest(backend, loop, tiny, dropout):
    block = classifier(backend, with_options(tiny, dropout=dropout)).encoder.blks[1]
    ones = np.ones((100, 1000), np.float32)
    for layer in (block.attention.dropout, block.addnorm1.dropout, block.addnorm2.dropout):
        with loop.recording(layer):
            outputs = [loop.array(f(loop.tensor(ones))) for f in (layer, loop.Dropout(layer))]
        for dropped in outputs:
            kept = dropped != 0
            assert np.allclose(dropped[kept], 1 / (1 - dropout))
            # Six standard deviations of the share of 100,000 draws.
            assert abs(1 - kept.mean() - dropout) < 6 * np.sqrt(dropout * (1 - dropout) / ones.size)


def test_dropout_is_at_three_places_of_a_block(backend, loop, tiny):
    """The embeddings and the feed-forward network have none, and the classifier drops nothing."""
    net = classifier(backend, with_options(tiny, dropout=0.3))
    places = ["attention.dropout", "addnorm1.dropout", "addnorm2.dropout"]
    expected = {f"blks.{i}.{place}" for i in range(2) for place in places}
    assert loop.dropout_layers(net.encoder) == expected
    assert net.config.pooler_dropout == net.config.classifier_dropout == 0


def test_dropout_spares_the_residual(backend, loop, tiny):
    """It works on the sublayer's output, before the sum: an output of 0 stays 0."""
    block = classifier(backend, with_options(tiny, dropout=0.5)).encoder.blks[0]
    X = np.random.default_rng(0).normal(size=(10, 32)).astype(np.float32)
    expected = (X - X.mean(axis=1, keepdims=True)) / np.sqrt(X.var(axis=1, keepdims=True) + 1e-5)
    for addnorm in (block.addnorm1, block.addnorm2):
        normalised = in_training(loop, addnorm, X, np.zeros_like(X))
        assert parity.max_abs_difference(normalised, expected) <= 1e-5
        assert parity.max_abs_difference(in_training(loop, addnorm, X, X), expected) > 0.1


def test_dropout_works_on_each_attention_weight(backend, loop, tiny):
    """It works after the softmax: with all values 1, a head counts the weights that it kept."""
    net, T = classifier(backend, with_options(tiny, dropout=0.5)), 8
    arrays = net.arrays()
    for name in arrays:
        if name.startswith("encoder.blks.0.attention."):
            arrays[name] = np.zeros_like(arrays[name])
    arrays["encoder.blks.0.attention.W_v.bias"] += 1
    arrays["encoder.blks.0.attention.W_o.weight"] += np.eye(32, dtype=np.float32)
    net.load_arrays(arrays, "the test")
    X = np.ones((2, T, 32), np.float32)
    layer = net.encoder.blks[0].attention
    for heads in (in_training(loop, layer, X), packed_attention(loop, layer, X)):
        kept = heads * T * (1 - 0.5)  # each weight is 1 / T, and 1 / (T * (1 - 0.5)) if it is kept
        assert np.allclose(kept, kept.round(), atol=1e-5)
        by_head = kept.reshape(2 * T, 4, 8)
        assert (by_head == by_head[..., :1]).all()
        assert len(np.unique(by_head.round())) > 3


def test_dropout_works_only_in_training(backend, make_batch, tiny):
    batch, plain = make_batch(8), classifier(backend, tiny)
    net = classifier(backend, with_options(tiny, dropout=0.5))
    assert np.array_equal(net.logits(batch), plain.logits(batch))
    trainer = backend.Trainer(net, devices="cpu")
    assert np.array_equal(trainer.eval_step(batch), plain.logits(batch))
    without = backend.Trainer(plain, devices="cpu").gradients(batch, seed=1)
    first, again, other = (trainer.gradients(batch, seed) for seed in (1, 1, 2))
    assert same(first, again)
    for others in (other, without):
        assert parity.relative_difference(first["output.weight"], others["output.weight"]) > 0.01
    assert np.array_equal(net.logits(batch), plain.logits(batch))


def test_the_dropout_argument_of_a_pretrained_model(backend, golden):
    """Unlike in the book's PyTorch tab, which always has 0.2."""
    changes = []
    for dropout in (0.0, 0.01, 0.5):
        net = backend.BERTClassifier(golden.bert(backend, dropout=dropout))
        trainer = backend.Trainer(net, devices="cpu")
        losses = [trainer.train_step(golden.batch, 1e-12, seed).read()[0] for seed in range(10)]
        changes.append(np.std(losses))
    assert changes[0] < 1e-5 < changes[1] < changes[2]


def test_fit_has_the_same_losses_on_both(both, goldens, fixtures):
    """Order of the data, steps, schedule and evaluation are compared."""
    histories, scores = [], []
    for nli in both:
        net = nli.BERTClassifier(goldens[nli.name].bert(nli))
        trainer = nli.Trainer(net, lr=1e-4, devices="cpu", schedule="linear", warmup=0.25, seed=3)
        train_set, test_set = datasets(nli, net.vocab, fixtures)
        histories.append(trainer.fit(train_set, test_set, 3, 5, progress=False))
        scores.append(trainer.evaluate(test_set))
    first, second = histories
    assert len(first.step_losses) > 10
    assert parity.max_abs_difference(first.step_losses, second.step_losses) <= 1e-4
    for a, b in zip(first.epochs, second.epochs, strict=True):
        assert a.dev_loss == pytest.approx(b.dev_loss, abs=1e-4)
        assert a.dev_accuracy == b.dev_accuracy
    assert scores[0].accuracy == scores[1].accuracy
    assert scores[0].loss == pytest.approx(scores[1].loss, abs=1e-4)
