"""Steps of Adam and whole trajectories: against the reference, float64, and the other backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bertnli import parity
from bertnli.backends.interface import Backend
from bertnli.bert.config import PRESETS, BERTConfig
from bertnli.data.batches import Batch

LR = 1e-4
Arrays = dict[str, NDArray]


def check_step(
    found: Arrays, expected: Arrays, grads: Arrays, threshold: float, steps: int
) -> None:
    """Compare weights after steps of Adam.

    Where a gradient is large, Adam's step does not depend on its rounding: within 1e-6. Where it is
    about as large as epsilon, or as its own rounding, the step may be anything up to the learning
    rate. Key biases have no other gradients.
    """
    assert set(found) == set(expected)
    compared = 0
    for name, array in found.items():
        if parity.is_key_bias(name):
            continue
        apart = np.abs(array.astype(np.float64) - expected[name])
        large = np.abs(grads[name]) > threshold
        compared += int(large.sum())
        assert apart[large].max(initial=0.0) <= 1e-6, name
        assert apart.max(initial=0.0) <= LR * steps, name
    assert compared > 1000  # the rule was not met by finding nothing to compare


@pytest.mark.parametrize("steps", [1, 5])
def test_the_framework_s_own_loop(backend: Backend, golden: Any, loop: Any, steps: int) -> None:
    """The book's loop with our model: torch's Adam sees the sum of gradients, gluon's the mean."""
    net = golden.net(backend)
    loss_sums = loop.train(net, [golden.batch] * steps, LR)
    check_step(net.arrays(), golden.steps[steps], golden.grads, threshold=1e-3, steps=steps)
    assert loss_sums[0] == pytest.approx(parity_loss_sum(golden, backend), abs=2e-5)


def parity_loss_sum(golden: Any, nli: Backend) -> float:
    net, batch = golden.net(nli), golden.batch
    arrays = (batch.token_ids, batch.segments, batch.valid_lens)
    found = parity.forward(net.arrays(), net.config, *arrays)
    assert found.logits is not None
    return float(parity.losses(found.logits, batch.labels).sum())


def test_a_step_of_the_trainer(backend: Backend, golden: Any) -> None:
    """Against torch.optim.Adam in float64 on the mean loss.

    The threshold is that of the golden files' gradients, 1e-3 in a sum over 8 pairs.
    """
    net, batch = golden.net(backend), golden.batch
    before = net.arrays()
    grads = parity.gradients(
        before, net.config, batch.token_ids, batch.segments, batch.valid_lens, batch.labels
    )
    tensors = {name: torch.tensor(array, dtype=torch.float64) for name, array in before.items()}
    for name, tensor in tensors.items():
        tensor.grad = torch.tensor(grads[name])
    torch.optim.Adam(tensors.values(), lr=LR).step()
    expected = {name: tensor.numpy() for name, tensor in tensors.items()}

    result = backend.Trainer(net, LR, devices="cpu").train_step(batch, LR, seed=0)
    check_step(net.arrays(), expected, grads, threshold=1e-3 / len(batch), steps=1)
    loss_sum, num_correct = result.read()
    assert loss_sum == pytest.approx(float(golden.values["loss"].sum()), abs=2e-5)
    assert num_correct == int((golden.values["logits"].argmax(1) == batch.labels).sum())


def test_a_smaller_last_batch_counts_by_its_own_size(backend: Backend, golden: Any) -> None:
    """Two steps, on 8 pairs and on 3: Adam would not notice a sum in place of both means."""
    net = golden.net(backend)
    expected = net.arrays()
    trainer = backend.Trainer(net, LR, devices="cpu")
    m: Arrays = {}
    v: Arrays = {}
    for step, part in enumerate((golden.batch, golden.batch[:3]), start=1):
        inputs = (part.token_ids, part.segments, part.valid_lens, part.labels)
        grads = parity.gradients(expected, net.config, *inputs)
        expected = parity.adam_step(expected, grads, m, v, step, LR)
        trainer.train_step(part, LR, seed=0)
    check_step(net.arrays(), expected, grads, threshold=1e-3, steps=2)


def test_the_trainer_s_adam_is_torch_s(backend: Backend, loop: Any, golden: Any) -> None:
    """Fed the same gradients, with zeros and sizes from 1e-12 to 10, and rates that change.

    Each of ten updates is compared with that of torch.optim.Adam in float64, whose moments go on
    from step to step, from the same weights: a float32 weight near 1 cannot be nearer than 6e-8.
    The sum of ten such roundings is bounded too.
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
            check_rounding(array, stepwise[name].numpy(), 1.2e-7, name)
            check_rounding(array, running[name].numpy(), 1.2e-7 * (step + 1), name)


def random_gradient(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    sizes = 10.0 ** rng.integers(-12, 2, shape) * (rng.random(shape) > 0.1)
    return (sizes * rng.choice([-1.0, 1.0], shape)).astype(np.float32)


def check_rounding(found: NDArray, expected: NDArray, tolerance: float, name: str) -> None:
    assert (np.abs(found - expected) <= tolerance * np.maximum(1, np.abs(expected))).all(), name


def classifiers(backends: tuple[Backend, ...], config: BERTConfig, seed: int = 0) -> list[Any]:
    """The same classifier on each backend, from its start values."""
    return [
        nli.BERTClassifier(nli.BERTModel(**config.to_dict(), seed=seed), seed=seed)
        for nli in backends
    ]


def check_trajectories(
    both: tuple[Backend, Backend],
    make_batch: Callable[..., Batch],
    *,
    steps: int,
    batch_size: int,
    longest: int,
    num_dev: int,
) -> None:
    config = BERTConfig(**PRESETS["bert.small"], vocab_size=2000, dropout=0.0)
    sizes = {"vocab_size": config.vocab_size, "longest": longest}
    nets = classifiers(both, config)
    ours, theirs = (
        nli.Trainer(net, LR, devices="cpu") for nli, net in zip(both, nets, strict=True)
    )
    train = (make_batch(batch_size, seed=step, **sizes) for step in range(steps))
    rows = parity.run_both(ours, theirs, train, LR)
    assert len(rows) == steps
    assert max(row.absolute for row in rows) <= 1e-4
    assert len({row.our_loss for row in rows}) == steps
    dev = [make_batch(100, seed=10_000 + i, **sizes) for i in range(num_dev // 100)]
    predictions = [
        np.concatenate([net.logits(batch).argmax(axis=1) for batch in dev]) for net in nets
    ]
    assert (predictions[0] == predictions[1]).mean() >= 0.999


def test_torch_against_mxnet(
    both: tuple[Backend, Backend], make_batch: Callable[..., Batch]
) -> None:
    """Ten steps at bert.small's widths: the start of the run below."""
    check_trajectories(both, make_batch, steps=10, batch_size=16, longest=24, num_dev=200)


@pytest.mark.long
def test_torch_against_mxnet_for_100_steps(
    both: tuple[Backend, Backend], make_batch: Callable[..., Batch]
) -> None:
    check_trajectories(both, make_batch, steps=100, batch_size=64, longest=48, num_dev=2000)


@pytest.mark.parametrize("batch_size", [7, 1, 2])
def test_two_mxnet_devices_against_one(
    both: tuple[Backend, Backend],
    make_batch: Callable[..., Batch],
    tiny: BERTConfig,
    batch_size: int,
) -> None:
    """The CPU as two devices: batches that do not divide, and one that leaves a device idle."""
    _, nli = both
    one, two = classifiers((nli, nli), tiny)
    alone = nli.Trainer(one, 1e-3, devices="cpu")
    shared = nli.Trainer(two, 1e-3, devices=["cpu:0", "cpu:1"])
    train = [make_batch(batch_size, seed=step % 4) for step in range(20)]
    rows = parity.run_both(alone, shared, train, lr=1e-3)
    assert max(row.absolute for row in rows) <= 1e-6
    assert rows[-1].our_loss < 0.9 * rows[0].our_loss
    assert parity.max_abs_difference(alone.eval_step(train[0]), shared.eval_step(train[0])) <= 1e-5
    for parameter in two.collect_params().values():  # both devices hold the same weights
        first, second = (array.asnumpy() for array in parameter.list_data())
        assert np.array_equal(first, second), parameter.name


def test_gradients_of_two_mxnet_devices(
    both: tuple[Backend, Backend], make_batch: Callable[..., Batch], tiny: BERTConfig
) -> None:
    _, nli = both
    (net,) = classifiers((nli,), tiny)
    batch = make_batch(5)
    alone = nli.Trainer(net, LR, devices="cpu").gradients(batch, seed=0)
    shared = nli.Trainer(net, LR, devices="cpu:0,cpu:1").gradients(batch, seed=0)
    rows = [row for row in parity.compare_arrays(shared, alone) if not parity.is_key_bias(row.name)]
    assert max(row.relative for row in rows) <= 1e-4
