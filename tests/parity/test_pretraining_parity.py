"""Pretraining: the packed loss against the book's, and one backend against the other."""

from itertools import islice

import numpy as np
import pytest
from scipy.special import log_softmax

import bertnli
from bertnli import parity
from bertnli.bert.config import BERTConfig
from bertnli.data.batches import batches
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import Text, build_text_vocab

STEPS, BATCH_SIZE = 50, 16


def make_set(next_sentence=True):
    """Make a set of the bundled sentences; the two sentences of a pair are a document."""
    premises, hypotheses, _ = bertnli.read("sample", "train")
    sentences = [s for pair in zip(premises, hypotheses, strict=True) for s in pair]
    text = Text(sentences, [i // 2 for i in range(len(sentences))])
    return PretrainingSet(text, 32, build_text_vocab(text, 2), next_sentence=next_sentence)


def make_net(nli, data, **options):
    config = BERTConfig(len(data.vocab), 32, 48, 4, 3, 0.0, 40, **options)
    bert = nli.BERTModel(**config.to_dict(), seed=1, vocab=data.vocab)
    return nli.BERTForPretraining(bert, next_sentence=data.next_sentence), bert


def a_batch(data, size=24):
    return next(batches(data.at_epoch(0, 0), size, shuffle=True))


def padded_inputs(batch):
    """Return the model's inputs, with positions padded with 0."""
    *inputs, positions = batch.inputs()
    return *inputs, np.maximum(positions, 0)


def plain_loss(bert, batch, next_sentence, loop):
    """Compute the book's loss, of every token of every block, in float64 from the logits on."""
    with loop.scope():
        _, mlm, nsp = bert(*map(loop.tensor, padded_inputs(batch)))
    nsp_logits = loop.array(nsp).astype(np.float64) if next_sentence else None
    return mean_loss(loop.array(mlm).astype(np.float64), nsp_logits, batch)


def mean_loss(mlm, nsp, batch):
    there = batch.pred_positions >= 0
    losses = -np.take_along_axis(log_softmax(mlm, -1), batch.pred_ids[..., None], 2)[..., 0]
    mean = float((losses * there).sum() / there.sum())
    if nsp is None:
        return mean
    follows = -np.take_along_axis(log_softmax(nsp, -1), batch.labels[:, None], 1)
    return mean + float(follows.mean())


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("embedding_norm", [True, False])
def test_the_packed_loss_is_the_plain_one(backend, loop, next_sentence, embedding_norm):
    data = make_set(next_sentence)
    options = {"activation": "gelu", "embedding_norm": True} if embedding_norm else {}
    net, bert = make_net(backend, data, **options)
    batch = a_batch(data)
    trainer = backend.Trainer(net, devices="cpu")
    loss_sum, hits = trainer.train_step(batch, 1e-12, 0).read()
    expected = plain_loss(bert, batch, next_sentence, loop)
    assert loss_sum / len(batch) == pytest.approx(expected, abs=5e-6)
    score = net.score(trainer.eval_step(batch), batch.labels)
    assert score.loss == pytest.approx(expected, abs=5e-6)
    assert score.accuracy == pytest.approx(hits / len(batch), abs=1e-6)
    assert score.num_predictions == (batch.pred_positions >= 0).sum()


@pytest.mark.parametrize("next_sentence", [True, False])
def test_gradients_agree_and_parts_add_up(both, next_sentence):
    data = make_set(next_sentence)
    batch = a_batch(data)
    first, *others = (
        trainer.gradients(batch, 0)
        for nli in both
        for size in (None, 5)
        for trainer in [nli.Trainer(make_net(nli, data)[0], devices="cpu", micro_batch_size=size)]
    )
    assert {*first} == {*make_net(both[0], data)[0].shapes()}
    for other in others:
        for name, gradient in first.items():
            if not parity.is_key_bias(name):
                scale = abs(gradient).max()
                assert scale > 0
                np.testing.assert_allclose(other[name], gradient, atol=1e-5 * scale, err_msg=name)


def test_gradients_are_slopes_of_the_float64_loss(backend):
    """The referee's loss changes by the gradient's norm times a step along the gradient."""
    data = make_set()
    net, _ = make_net(backend, data)
    batch = a_batch(data)
    gradients = backend.Trainer(net, devices="cpu").gradients(batch, 0)
    arrays = {name: array.astype(np.float64) for name, array in net.arrays().items()}
    step = 1e-5
    for name in ("encoder.token_embedding.weight", "mlm.decoder.weight", "hidden.weight"):
        direction = gradients[name] / np.linalg.norm(gradients[name])
        low, high = (
            referee_loss({**arrays, name: arrays[name] + sign * step * direction}, net, batch)
            for sign in (-1, 1)
        )
        slope = (high - low) / (2 * step)
        assert slope == pytest.approx(float(np.linalg.norm(gradients[name])), rel=1e-4)


def referee_loss(arrays, net, batch):
    output = parity.forward(arrays, net.config, *padded_inputs(batch))
    return mean_loss(output.mlm_logits, output.nsp_logits, batch)


@pytest.mark.parametrize(
    ("next_sentence", "activation", "lr"), [(True, "gelu", 1e-3), (False, "relu", 1e-4)]
)
def test_fifty_steps_have_the_same_losses(both, next_sentence, activation, lr):
    """With ReLU the steps are smaller: an input that rounds to the other side of 0 shows."""
    data = make_set(next_sentence)
    losses = []
    for nli in both:
        net, _ = make_net(nli, data, activation=activation)
        trainer = nli.Trainer(net, lr=lr, devices="cpu")
        epochs = range(-(-STEPS * BATCH_SIZE // len(data)))
        steps = (b for e in epochs for b in batches(data.at_epoch(0, e), 16, epoch=e, shuffle=True))
        means = [trainer.train_step(b, lr, 0).read()[0] / len(b) for b in islice(steps, STEPS)]
        losses.append(np.array(means))
    assert np.abs(losses[0] - losses[1]).max() <= 1e-4
    assert losses[0][-5:].mean() < losses[0][:5].mean()
