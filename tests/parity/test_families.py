"""RoBERTa, XLM-R, CamemBERT, DistilBERT, ELECTRA and MPNet against transformers' own code."""

import numpy as np
import pytest
import torch
from hf_models import FAMILIES, LABELS, NAMED, SIZES, make_model, peer_inputs, peer_names
from small_nets import plain_heads

from bertnli import parity
from bertnli.data.batches import Batch

LENGTHS = [40, 3, 1, 17, 29, 8, 40, 12]


@pytest.fixture(scope="module", params=FAMILIES)
def classified(request, tmp_path_factory):
    """Write a classifier of a family; return its folder and transformers' model."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return folder, make_model(request.param, folder, **NAMED)


@pytest.fixture(scope="module")
def batch():
    """Draw a batch without the ids of padding."""
    rng = np.random.default_rng(0)
    ids = rng.integers(2, SIZES["vocab_size"], (len(LENGTHS), 40))
    lens, labels = np.array(LENGTHS), rng.integers(0, 3, len(LENGTHS))
    segments = (np.arange(40) >= lens[:, None] // 2).astype("i4")
    return Batch(*(array.astype("i4") for array in (ids, segments, lens, labels)))


def peer_loss(model, batch):
    logits = model(**peer_inputs(model, batch)).logits
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels).long())


def test_logits_are_transformers(backend, classified, batch):
    folder, model = classified
    net = backend.load(folder)
    with torch.no_grad():
        expected = model(**peer_inputs(model, batch)).logits.numpy()
    assert parity.max_abs_difference(net.logits(batch), expected) <= 1e-5
    padded = list(net.activations(batch).values())[-1]
    assert parity.max_abs_difference(padded, expected) <= 1e-5
    arrays, config = net.arrays(), net.config
    exact = parity.forward(arrays, config, *batch.inputs()).logits
    assert parity.max_abs_difference(exact, expected) <= 1e-5
    assert np.ptp(expected, axis=0).min() > 0.1


def without_dropout(backend, folder):
    """Load a classifier to train on without dropout."""
    bert, _ = backend.load_pretrained_model(folder, dropout=0.0, devices="cpu")
    return backend.BERTClassifier(bert, LABELS)


def test_gradients_are_transformers(backend, classified, batch):
    folder, model = classified
    net = without_dropout(backend, folder)
    model.zero_grad()
    peer_loss(model, batch).backward()
    ours = backend.Trainer(net, devices="cpu").gradients(batch, 0)
    for name, parameter in peer_names(model).items():
        expected = parameter.grad.numpy().reshape(ours[name].shape)
        apart = parity.max_abs_difference(ours[name], expected)
        scale = np.abs(expected).max()
        assert apart <= (1e-6 if parity.is_key_bias(name) else 1e-4 * scale), name


def test_steps_are_transformers(backend, classified, batch):
    folder, model = classified
    peer = type(model)(model.config).eval()  # without dropout
    peer.load_state_dict(model.state_dict())
    net = without_dropout(backend, folder)
    trainer = backend.Trainer(net, lr=1e-3, weight_decay=0.01, devices="cpu")
    plain = [p for n, p in peer.named_parameters() if n.endswith("bias") or "Norm" in n]
    plain += [p for n, p in peer.named_parameters() if "layer_norm" in n and n.endswith("weight")]
    others = [p for p in peer.parameters() if all(p is not q for q in plain)]
    groups = [{"params": others, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for _ in range(20):
        loss = peer_loss(peer, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum, _ = trainer.train_step(batch, 1e-3, 0).read()
        assert abs(loss_sum / len(batch) - loss.item()) <= 1e-4


DROPOUTS = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.4}
#: Settings of a family with a different dropout in every place that has one of its own.
DROPPING = {
    "distilbert": {"dropout": 0.4, "attention_dropout": 0.1, "seq_classif_dropout": 0.3},
    "mpnet": DROPOUTS,
    "deberta-v2": {
        "hidden_dropout_prob": 0.3,
        "attention_probs_dropout_prob": 0.1,
        "pooler_dropout": 0.2,
        "cls_dropout": 0.4,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_where_transformers_applies_it(backend, loop, family, tmp_path):
    """Compare the means of each layer's outputs, and of their squares, over 2,000 draws.

    The pairs of a batch share the dropout of DeBERTa's distances, which the means of a batch show.
    """
    settings = DROPPING.get(family, {**DROPOUTS, "classifier_dropout": 0.3})
    model = make_model(family, tmp_path, attn_implementation="eager", **settings, **NAMED).train()
    net, width = backend.load(tmp_path), 7
    batches, size, sharing = (200, 40, 40) if net.config.position_buckets else (1, 2000, 1)
    rng = np.random.default_rng(1)
    one = rng.integers(2, SIZES["vocab_size"], width), np.array([0] * 3 + [1] * 4)
    ids, segments = (np.tile(array.astype("i4"), (size, 1)) for array in one)
    batch = Batch(ids, segments, np.full(size, width, "i4"), np.zeros(size, "i4"))
    torch.manual_seed(0)
    expected, actual = [], []
    inputs = [loop.tensor(array) for array in batch.inputs()]
    loop.seed(0)
    for _ in range(batches):
        with torch.no_grad():
            outputs = model(**peer_inputs(model, batch), output_hidden_states=True)
        expected.append([X.numpy() for X in (*outputs.hidden_states, outputs.logits)])
        with loop.recording(net):
            X = net.encoder.token_embedding(inputs[0])
            layers = net._layer_outputs(X, *inputs[1:])[:-2]
            padded, packed = plain_heads(backend).BERTClassifier.forward(net, inputs), net(inputs)
        actual.append([loop.array(X) for X in (*layers, padded, packed)])
    places = [*range(len(expected[0])), -1]
    for i, *parts in zip(places, *actual, strict=True):
        sides = np.concatenate(parts), np.concatenate([outputs[i] for outputs in expected])
        ours, theirs = (X.reshape(batches * size, -1) @ directions(X) for X in sides)
        ours, theirs = (
            (x - theirs.mean(0)).reshape(-1, sharing, x.shape[1]) for x in (ours, theirs)
        )
        for powers in ((1, 1), (2, 1), (1, 2)):  # before and after the mean of those that share
            a, b = ((x ** powers[0]).mean(1) ** powers[1] for x in (ours, theirs))
            errors = np.sqrt((a.var(0) + b.var(0)) / len(a))
            assert (np.abs(a.mean(0) - b.mean(0)) / errors).max() <= 4, (i, powers)


def directions(outputs):
    """Return fixed vectors, (values of a draw, 6), on which outputs are projected."""
    size = outputs[0].size
    return np.random.default_rng(2).normal(size=(size, 6)) / np.sqrt(size)
