"""Names of devices, and PyTorch's DataParallel around our classifier without GPUs.

Splitting, replicating and gathering are PyTorch's own code; only the copies between devices are
replaced by copies on the CPU, and the replicas run one after the other.
"""

import importlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import scatter_gather

from bertnli import get_backend, parity
from bertnli.backends.torch import engine
from bertnli.errors import BackendError

CPU = torch.device("cpu")
# torch.nn.parallel has functions of these modules' names.
replicate_module = importlib.import_module("torch.nn.parallel.replicate")


class Scatter:
    """Replaces torch.cuda.comm.scatter: chunks along an axis, perhaps fewer than devices."""

    @staticmethod
    def apply(devices, sizes, dim, tensor):
        return tensor.chunk(len(devices), dim)


class Gather:
    @staticmethod
    def apply(device, dim, *tensors):
        return torch.cat(tensors, dim)


def copies(tensors, devices, detach):
    """Copy tensors for each device; gradients flow back to the originals, and add up there."""
    return [[t.detach().clone() if detach else t.clone() for t in tensors] for _ in devices]


class StandInDataParallel(nn.DataParallel):
    """nn.DataParallel that takes the CPU for several devices."""

    replicas_used: list[int]

    def __init__(self, module, device_ids):
        nn.Module.__init__(self)  # the parent's would look for GPUs
        self.module = module
        self.dim = 0
        self.device_ids = list(range(len(device_ids)))
        self.src_device_obj = CPU
        self.output_device = 0
        self.replicas_used = []

    def parallel_apply(self, replicas, inputs, kwargs):
        self.replicas_used.append(len(replicas))
        assert len({id(replica) for replica in replicas}) == len(replicas)
        return [replica(*args) for replica, args in zip(replicas, inputs, strict=True)]


@pytest.fixture
def nli():
    return get_backend("torch")


@pytest.fixture
def parallel_trainer(monkeypatch):
    """A function that makes a trainer of a net on a number of simulated devices."""
    monkeypatch.setattr(scatter_gather, "Scatter", Scatter)
    monkeypatch.setattr(scatter_gather, "Gather", Gather)
    monkeypatch.setattr(replicate_module, "_broadcast_coalesced_reshape", copies)
    monkeypatch.setattr(nn, "DataParallel", StandInDataParallel)
    monkeypatch.setattr(engine, "as_devices", lambda devices: [CPU] * devices)
    return lambda net, num_devices: get_backend("torch").Trainer(net, devices=num_devices)


def classifier(nli, config):
    return nli.BERTClassifier(nli.BERTModel(**config.to_dict()))


@pytest.mark.parametrize(("batch_size", "num_devices", "parts"), [(7, 2, 2), (5, 4, 3), (1, 2, 1)])
def test_losses_and_gradients_are_those_of_one_device(
    nli, parallel_trainer, make_batch, tiny, batch_size, num_devices, parts
):
    one, several = classifier(nli, tiny), classifier(nli, tiny)
    alone, shared = parallel_trainer(one, 1), parallel_trainer(several, num_devices)
    assert isinstance(shared.engine.parallel, StandInDataParallel)
    assert not isinstance(alone.engine.parallel, nn.DataParallel)
    batch = make_batch(batch_size)
    rows = parity.compare_arrays(shared.gradients(batch, 0), alone.gradients(batch, 0))
    assert len(rows) == len(one.arrays())
    wrong = [row for row in rows if not parity.is_key_bias(row.name) and not row.relative <= 1e-5]
    assert not wrong
    assert shared.engine.parallel.replicas_used == [parts]
    steps = parity.run_both(
        shared, alone, [make_batch(batch_size, seed=s) for s in range(10)], 1e-3
    )
    assert max(step.absolute for step in steps) <= 1e-6
    assert parity.max_abs_difference(shared.eval_step(batch), alone.eval_step(batch)) <= 1e-5
    assert list(shared.net.arrays()) == list(several.arrays()) == list(one.arrays())
    assert len(set(shared.engine.parallel.replicas_used)) == 1


def test_replicas_train_and_evaluate_as_the_net_does(nli, parallel_trainer, make_batch, tiny):
    """Dropout works in the replicas only while training."""
    net = nli.BERTClassifier(nli.BERTModel(**{**tiny.to_dict(), "dropout": 0.5}))
    trainer = parallel_trainer(net, 2)
    batch = make_batch(6)
    without = classifier(nli, tiny).logits(batch)
    assert parity.max_abs_difference(trainer.eval_step(batch), without) <= 1e-5
    first, again, other = (trainer.gradients(batch, seed)["output.weight"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert parity.relative_difference(first, other) > 0.01


def test_the_cpu_is_one_device_to_torch(nli):
    assert nli.as_devices(None) == nli.try_all_gpus()
    assert nli.as_devices("cpu") == nli.as_devices(["cpu"]) == nli.as_devices(CPU) == [CPU]
    with pytest.raises(BackendError, match="GPUs only"):
        nli.as_devices("cpu,cpu")


@pytest.mark.needs("mxnet")
def test_the_cpu_is_many_devices_to_mxnet():
    nli = get_backend("mxnet")
    assert [str(device) for device in nli.as_devices("cpu:0,cpu:1")] == ["cpu(0)", "cpu(1)"]
    assert nli.as_devices(["cpu:0", "cpu:1"]) == nli.as_devices("cpu:0, cpu:1")
    assert nli.as_devices(nli.cpu()) == nli.as_devices("cpu") == nli.as_devices("cpu(0)")
    with pytest.raises(BackendError, match="twice"):
        nli.as_devices("cpu,cpu:0")


def test_there_is_always_a_device_unless_a_name_is_wrong(backend):
    """The book's function returns an empty list without a GPU."""
    for devices in ("tpu", "", "cpu:x", [], "gpu:99"):
        with pytest.raises(BackendError):
            backend.as_devices(devices)
    assert len(backend.try_all_gpus()) >= 1
    assert backend.as_devices([backend.try_gpu(99)]) == [backend.cpu()]


@pytest.mark.needs("mxnet")
def test_each_process_of_a_host_has_its_own_gpu(monkeypatch):
    import mxnet

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(mxnet.context, "num_gpus", lambda: 4)
    variables = {"torch": "LOCAL_RANK", "mxnet": "BERTNLI_LOCAL_RANK"}
    for name, variable in variables.items():
        nli = get_backend(name)
        assert len(nli.as_devices("gpu")) == len(nli.as_devices(None)) == 4
        monkeypatch.setenv(variable, "2")
        assert nli.as_devices("gpu") == nli.as_devices(None) == nli.as_devices("gpu:2")
        monkeypatch.setenv(variable, "5")
        assert nli.as_devices("gpu") == nli.as_devices("gpu:1")
        with pytest.raises(BackendError, match="sees 4 GPUs"):
            nli.as_devices("gpu:4")


@pytest.mark.needs("mxnet")
def test_a_split_batch_has_every_pair_once(make_batch):
    from bertnli.backends.mxnet.devices import split_batch

    batch = make_batch(7)
    parts = split_batch(batch, [0, 1, 2])
    assert [len(part) for part in parts] == [2, 3, 2]
    assert np.array_equal(np.concatenate([part.token_ids for part in parts]), batch.token_ids)
