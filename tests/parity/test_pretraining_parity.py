"""Pretraining: the packed loss against the book's, and one backend against the other."""

from itertools import islice

import numpy as np
import pytest

import bertnli
from bertnli import parity
from bertnli.bert.config import BERTConfig
from bertnli.data.batches import batches
from bertnli.data.masking import PretrainingBatch
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import Text, build_text_vocab

STEPS, BATCH_SIZE = 50, 16


def make_set(next_sentence=True):
    """The premises and hypotheses that come with bertnli, a pair a document."""
    premises, hypotheses, _ = bertnli.read("sample", "train")
    sentences = [s for pair in zip(premises, hypotheses, strict=True) for s in pair]
    text = Text(sentences, [i // 2 for i in range(len(sentences))])
    return PretrainingSet(text, 32, build_text_vocab(text, 2), next_sentence=next_sentence)


def make_net(nli, data, **options):
    config = BERTConfig(len(data.vocab), 32, 48, 4, 2, 0.0, 40, **options)
    bert = nli.BERTModel(**config.to_dict(), seed=1, vocab=data.vocab)
    return nli.BERTForPretraining(bert, next_sentence=data.next_sentence)


def a_batch(data, size=24):
    batch = next(batches(data.at_epoch(0, 0), size, shuffle=True))
    assert isinstance(batch, PretrainingBatch)
    return batch


def padded_inputs(batch):
    """The model's inputs, positions padded with 0."""
    *inputs, positions = batch.inputs()
    return *inputs, np.maximum(positions, 0)


def books_loss(bert, batch, next_sentence, loop):
    """The book's: every token of every block; padding of the positions is weighted with 0."""
    with loop.scope():
        _, mlm, nsp = bert(*map(loop.tensor, padded_inputs(batch)))
    nsp_logits = loop.array(nsp).astype(np.float64) if next_sentence else None
    return mean_loss(loop.array(mlm).astype(np.float64), nsp_logits, batch)


def mean_loss(mlm, nsp, batch):
    there = batch.pred_positions >= 0
    losses = -np.take_along_axis(log_softmax(mlm), batch.pred_ids[..., None], 2)[..., 0]
    mean = float((losses * there).sum() / there.sum())
    if nsp is None:
        return mean
    follows = -np.take_along_axis(log_softmax(nsp), batch.labels[:, None], 1)
    return mean + float(follows.mean())


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("embedding_norm", [True, False])
def test_the_loss_is_the_books(backend, loop, next_sentence, embedding_norm):
    data = make_set(next_sentence)
    options = {"activation": "gelu", "embedding_norm": True} if embedding_norm else {}
    config = BERTConfig(len(data.vocab), 32, 48, 4, 3, 0.0, 40, **options)
    bert = backend.BERTModel(**config.to_dict(), seed=1, vocab=data.vocab)
    net = backend.BERTForPretraining(bert, next_sentence=next_sentence)
    batch = a_batch(data)
    trainer = backend.Trainer(net, devices="cpu")
    loss_sum, hits = trainer.train_step(batch, 1e-12, 0).read()
    expected = books_loss(bert, batch, next_sentence, loop)
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
        nli.Trainer(make_net(nli, data), devices="cpu", micro_batch_size=size).gradients(batch, 0)
        for nli in both
        for size in (None, 5)
    )
    assert {*first} == {*make_net(both[0], data).shapes()}
    for other in others:
        for name, gradient in first.items():
            if not parity.is_key_bias(name):
                scale = abs(gradient).max()
                assert scale > 0
                np.testing.assert_allclose(other[name], gradient, atol=1e-5 * scale, err_msg=name)


def test_gradients_are_slopes_of_the_float64_loss(backend):
    """The referee computes the encoder in float64; a step along a gradient changes its loss."""
    data = make_set()
    net = make_net(backend, data)
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
    assert output.mlm_logits is not None and output.nsp_logits is not None
    return mean_loss(output.mlm_logits, output.nsp_logits, batch)


@pytest.mark.parametrize(
    ("next_sentence", "activation", "lr"), [(True, "gelu", 1e-3), (False, "relu", 1e-4)]
)
def test_fifty_steps_have_the_same_losses(both, next_sentence, activation, lr):
    """ReLU's slope jumps where its input rounds to the other side of 0: of so few units one that
    does is seen in the next steps, the more so the larger they are."""
    data = make_set(next_sentence)
    losses = []
    for nli in both:
        trainer = nli.Trainer(make_net(nli, data, activation=activation), lr=lr, devices="cpu")
        epochs = range(-(-STEPS * BATCH_SIZE // len(data)))
        steps = (b for e in epochs for b in batches(data.at_epoch(0, e), 16, epoch=e, shuffle=True))
        means = [trainer.train_step(b, lr, 0).read()[0] / len(b) for b in islice(steps, STEPS)]
        losses.append(np.array(means))
    assert np.abs(losses[0] - losses[1]).max() <= 1e-4
    assert losses[0][-5:].mean() < losses[0][:5].mean()
