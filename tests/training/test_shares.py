"""Several processes, or micro-batches, compute what one process does."""

import functools
import json
import sys

import numpy as np
import pytest
import torch
import workers_worker
from every_setting import ARCHITECTURE
from several import run, started
from small_runs import assert_same_arrays

from bertnli import parity
from bertnli.backends.mxnet._framework import mx
from bertnli.errors import ConfigError, TrainingError
from bertnli.training.workers import Workers

LONG = pytest.mark.long


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function that runs `workers_worker` in several processes; returns each one's results."""

    @functools.cache
    def train(backend, count, settings="{}"):
        folder = tmp_path_factory.mktemp(f"{backend}{count}")
        run(started(backend, count, [workers_worker.__file__, backend, str(folder), settings]))
        return [dict(np.load(folder / f"{rank}-of-{count}.npz")) for rank in range(count)]

    return train


MICRO = {"micro_batch_size": 2, "auto_batch": True}
#: Settings that need the whole batch's gradient.
RECIPE = {"weight_decay": 0.1, "clip_norm": 0.5, "layer_decay": 0.8, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (2, RECIPE | MICRO | {"encoder": ARCHITECTURE}),
        pytest.param(2, RECIPE | MICRO, marks=LONG),
        pytest.param(4, RECIPE | MICRO, marks=LONG),
        pytest.param(2, RECIPE, marks=LONG),
        pytest.param(4, {}, marks=LONG),
    ],
)
def test_processes_compute_what_one_does(backend, trained, count, settings):
    """Losses agree within 1e-6 at each step, gradients to the digits that float32 has.

    A batch's pairs pull in different directions, and of their sum fewer digits are right than of
    each: a single process's gradients are as far from float64. The last batch has fewer pairs than
    there are processes.
    """
    alone = {name: value for name, value in settings.items() if name not in MICRO}
    expected = workers_worker.results(*workers_worker.make_trainer(backend.name, **alone))
    several = trained(backend.name, count, json.dumps(settings))
    arrays = several[0]
    assert len(arrays["losses"]) == workers_worker.STEPS
    assert np.abs(arrays["losses"] - expected["losses"]).max() <= 1e-6
    gradients = [name for name in expected if name.startswith("gradient/")]
    assert len(gradients) > 30
    for name in gradients:
        if not parity.is_key_bias(name.removeprefix("gradient/")):
            largest = np.abs(expected[name]).max()
            assert np.abs(arrays[name] - expected[name]).max() <= 3e-6 * largest, name
    assert np.abs(arrays["scores"] - expected["scores"]).max() <= 1e-5
    for other in several[1:]:  # bit by bit, or the processes would drift apart
        assert_same_arrays(other, arrays)


def test_processes_of_torch_and_devices_of_mxnet_agree(trained):
    torch_losses = trained("torch", 2, json.dumps(RECIPE | MICRO))[0]["losses"]
    made = workers_worker.make_trainer("mxnet", devices="cpu:0,cpu:1", **RECIPE)
    losses = workers_worker.results(*made)["losses"]
    assert np.abs(losses - torch_losses).max() <= 1e-5
    assert losses[0] != pytest.approx(losses[-1], abs=0.01)  # it has learnt


class First(Workers):
    """The first of two processes, of which the other sends zeros; records what it sends."""

    size = 2

    def __init__(self):
        self.sent = []

    def sum(self, values):
        self.sent.append(values.copy())
        return values


class Second(Workers):
    """The second of two processes; adds what the first one sent."""

    rank, size = 1, 2

    def __init__(self, sent):
        self.sent = sent

    def sum(self, values):
        return values + self.sent.pop(0)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 1 << 21, (1 << 22) + 3])
def test_bytes_of_the_first_process_reach_the_others(length):
    data = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    first = First()
    assert first.on_rank0(lambda: data, bytes, bytes) == data
    assert Second(first.sent).on_rank0(lambda: b"not called", bytes, bytes) == data


def test_an_error_of_the_first_process_is_raised_in_all():
    def fails():
        raise ConfigError("not so")

    first = First()
    with pytest.raises(ConfigError, match="not so"):
        first.on_rank0(fails, bytes, bytes)
    with pytest.raises(ConfigError, match="not so"):
        Second(first.sent).on_rank0(lambda: b"", bytes, bytes)


@pytest.mark.parametrize("size", range(1, 7))
def test_shares_hold_each_pair_once_and_are_even(make_batch, size):
    batch, shares = make_batch(5), []
    for rank in range(size):
        workers = Workers()
        workers.rank, workers.size = rank, size
        shares.append(workers.share(batch))
    rows = sorted(map(bytes, batch.token_ids))
    assert sorted(bytes(row) for share in shares for row in share.token_ids) == rows
    tokens = [int(share.valid_lens.sum()) for share in shares]
    assert max(tokens) - min(tokens) <= int(batch.valid_lens.max())


def test_micro_batches_are_halved_when_memory_is_short(backend, monkeypatch, capsys):
    """The framework's own error is raised when more than 2 pairs are computed together."""
    errors = {
        "torch": lambda: torch.OutOfMemoryError("CUDA out of memory"),
        "mxnet": lambda: mx.MXNetError("cudaMalloc retry failed: out of memory"),
    }

    def limited(**settings):
        trainer, train, _ = workers_worker.make_trainer(backend.name, **settings)
        backward_share = trainer.engine._backward_share

        def backward(share, *how):
            if min(trainer.engine.limits.micro_batch_size or len(share), len(share)) > 2:
                raise errors[backend.name]()
            return backward_share(share, *how)

        monkeypatch.setattr(trainer.engine, "_backward_share", backward)
        return trainer, lambda: trainer.fit(train, None, 1, 7, progress=False).step_losses

    plain, train, _ = workers_worker.make_trainer(backend.name)
    expected = plain.fit(train, None, 1, 7, progress=False).step_losses
    trainer, fit = limited(auto_batch=True)
    assert np.abs(np.subtract(fit(), expected)).max() <= 1e-6
    assert trainer.engine.limits.micro_batch_size == 1  # 7, 3, 1
    assert "7 pairs at a time; going on with 3" in capsys.readouterr().err
    with pytest.raises(TrainingError, match=r"7 pairs at a time.*--micro-batch-size 3"):
        limited()[1]()
    assert np.abs(np.subtract(limited(micro_batch_size=2)[1](), expected)).max() <= 1e-6
    with pytest.raises(ConfigError, match="micro_batch_size is 0"):
        limited(micro_batch_size=0)


def test_a_sum_leaves_no_reference_to_its_tensor(tmp_path):
    """A thread that frees a tensor while Python ends aborts the process."""
    code = """
import sys, torch, torch.distributed as dist
from bertnli.backends.torch.workers import all_reduce
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
for _ in range(3000):
    tensor = torch.ones(3)
    before = tensor._use_count(), sys.getrefcount(tensor)
    all_reduce(tensor)
    assert (tensor._use_count(), sys.getrefcount(tensor)) == before
dist.destroy_process_group()
"""
    run([sys.executable, "-c", code, str(tmp_path / "store")])
