"""Steps of Adam, against the reference, float64 and the other backend."""

import numpy as np
import pytest
import torch
from small_nets import classifier

from bertnli import parity
from bertnli.bert.config import PRESETS, BERTConfig

LR = 1e-4


def check_step(weights, expected, grads, threshold, steps):
    """Compare weights after steps of Adam.

    Where a gradient is above the threshold, Adam's step does not depend on its rounding: within
    1e-6. Elsewhere, as in all key biases, a step may be anything up to the learning rate.
    """
    assert set(weights) == set(expected)
    compared = 0
    for name, array in weights.items():
        if parity.is_key_bias(name):
            continue
        apart = np.abs(array.astype(np.float64) - expected[name])
        large = np.abs(grads[name]) > threshold
        compared += int(large.sum())
        assert apart[large].max(initial=0.0) <= 1e-6, name
        assert apart.max(initial=0.0) <= LR * steps, name
    assert compared > 1000


@pytest.mark.parametrize("steps", [1, 5])
def test_the_framework_s_own_loop(backend, golden, loop, steps):
    """The loss of torch's loop is a sum over pairs, that of gluon's Trainer a mean."""
    net, batch = golden.net(backend), golden.batch
    logits = parity.forward(net.arrays(), net.config, *batch.inputs()).logits
    loss_sums = loop.train(net, [batch] * steps, LR)
    check_step(net.arrays(), golden.steps[steps], golden.grads, threshold=1e-3, steps=steps)
    expected = parity.losses(logits, batch.labels).sum()
    assert loss_sums[0] == pytest.approx(float(expected), abs=2e-5)


def test_steps_of_the_trainer(backend, golden):
    """Compare with Adam in float64 on the mean loss, also of a smaller last batch."""
    net, batch = golden.net(backend), golden.batch
    trainer = backend.Trainer(net, LR, devices="cpu")
    expected, moments = net.arrays(), ({}, {})
    for step, part in enumerate((batch, batch[:3]), start=1):
        grads = parity.gradients(expected, net.config, *part.inputs(), part.labels)
        expected = parity.adam_step(expected, grads, *moments, step, LR)
        loss_sum, num_correct = trainer.train_step(part, LR, seed=0).read()
        if step == 1:
            check_step(net.arrays(), expected, grads, threshold=1e-3 / len(batch), steps=1)
            assert loss_sum == pytest.approx(float(golden.values["loss"].sum()), abs=2e-5)
            assert num_correct == (golden.values["logits"].argmax(1) == batch.labels).sum()
    check_step(net.arrays(), expected, grads, threshold=1e-3, steps=2)


def test_the_trainer_s_adam_is_torch_s(backend, loop, golden):
    """Gradients are zero, or from 1e-12 to 10, and rates change.

    Each update is compared with that of torch.optim.Adam in float64, from the same weights, and so
    is the sum of all. A float32 weight near 1 cannot be nearer than 6e-8.
    """
    net = golden.net(backend)
    trainer = backend.Trainer(net, LR, devices="cpu")
    rng = np.random.default_rng(0)
    starts = net.arrays()
    stepwise = {name: torch.tensor(array, dtype=torch.float64) for name, array in starts.items()}
    running = {name: tensor.clone() for name, tensor in stepwise.items()}
    optimizers = [torch.optim.Adam(tensors.values()) for tensors in (stepwise, running)]
    for step in range(10):
        lr = LR * (step + 1)
        grads = {name: random_gradient(rng, array.shape) for name, array in starts.items()}
        for name, array in net.arrays().items():
            stepwise[name].copy_(torch.tensor(array))
            stepwise[name].grad = torch.tensor(grads[name], dtype=torch.float64)
            running[name].grad = stepwise[name].grad
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        loop.take_step(trainer, grads, lr)
        for name, array in net.arrays().items():
            for tensors, tolerance in ((stepwise, 1.2e-7), (running, 1.2e-7 * (step + 1))):
                right = tensors[name].numpy()
                assert (np.abs(array - right) <= tolerance * np.maximum(1, abs(right))).all(), name


def random_gradient(rng, shape):
    sizes = 10.0 ** rng.integers(-12, 2, shape) * (rng.random(shape) > 0.1)
    return (sizes * rng.choice([-1.0, 1.0], shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("steps", "batch_size", "longest", "num_dev"),
    [(10, 16, 24, 100), pytest.param(100, 64, 48, 2000, marks=pytest.mark.long)],
)
def test_torch_against_mxnet(both, make_batch, steps, batch_size, longest, num_dev):
    """Compare losses and predictions at bert.small's widths."""
    config = BERTConfig(**PRESETS["bert.small"], vocab_size=2000, dropout=0.0)
    sizes = {"vocab_size": config.vocab_size, "longest": longest}
    nets = [classifier(nli, config) for nli in both]
    trainers = [nli.Trainer(net, LR, devices="cpu") for nli, net in zip(both, nets, strict=True)]
    train = (make_batch(batch_size, seed=step, **sizes) for step in range(steps))
    rows = parity.run_both(*trainers, train, LR)
    assert max(row.absolute for row in rows) <= 1e-4
    assert len({row.our_loss for row in rows}) == steps
    dev = [make_batch(100, seed=10_000 + i, **sizes) for i in range(num_dev // 100)]
    predictions = [np.concatenate([net.logits(b).argmax(axis=1) for b in dev]) for net in nets]
    assert (predictions[0] == predictions[1]).mean() >= 0.999


@pytest.mark.parametrize("batch_size", [7, 1])
def test_two_mxnet_devices_against_one(both, make_batch, tiny, batch_size):
    """The CPU stands for two devices; batches are odd, even, or of one pair only."""
    _, nli = both
    one, two = classifier(nli, tiny), classifier(nli, tiny)
    alone = nli.Trainer(one, 1e-3, devices="cpu")
    shared = nli.Trainer(two, 1e-3, devices=["cpu:0", "cpu:1"])
    train = [make_batch(batch_size, seed=step % 4) for step in range(20)]
    pairs = parity.compare_arrays(*(t.gradients(train[0], seed=0) for t in (shared, alone)))
    assert max(row.relative for row in pairs if not parity.is_key_bias(row.name)) <= 1e-4
    rows = parity.run_both(alone, shared, train, lr=1e-3)
    assert max(row.absolute for row in rows) <= 1e-6
    assert rows[-1].our_loss < 0.9 * rows[0].our_loss
    assert parity.max_abs_difference(alone.eval_step(train[0]), shared.eval_step(train[0])) <= 1e-5
    for parameter in two.collect_params().values():  # both devices hold the same weights
        first, second = (array.asnumpy() for array in parameter.list_data())
        assert np.array_equal(first, second), parameter.name
