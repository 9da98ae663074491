"""`bertnli.d2l` against the reference's golden files: the chapter's classifier and loop."""

import importlib
import json
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_training import LR, check_step

from bertnli import parity
from bertnli.formats import names

CELLS = Path(__file__).parents[1] / "d2l"


@pytest.fixture
def d2l(backend):
    return importlib.import_module(f"bertnli.d2l.{backend.name}")


def cell_classifier(d2l, backend, golden, loop, tmp_path: Path):
    """The chapter's classifier on the book's file, without dropout, its output as in the golden."""
    with zipfile.ZipFile(golden.zip) as archive:
        archive.extractall(tmp_path)
    [file] = tmp_path.glob("*/pretrained.params")
    vocab_size = len(json.loads((file.parent / "vocab.json").read_text()))
    bert = d2l.BERTModel(vocab_size, 32, 64, num_heads=4, num_blks=2, dropout=0.0, max_len=512)
    output = [golden.values[f"output_{key}"] for key in ("weight", "bias")]
    cells = runpy.run_path(str(CELLS / f"cells_{backend.name}.py"))
    with loop.scope():
        if backend.name == "torch":
            import torch

            bert.load_state_dict(torch.load(file))
            net = cells["BERTClassifier"](bert)
            net.output = torch.nn.Linear(32, 3)
            state = zip(("weight", "bias"), map(torch.from_numpy, output), strict=True)
            net.output.load_state_dict(dict(state))
        else:
            bert.load_parameters(str(file), ctx=d2l.try_all_gpus())
            net = cells["BERTClassifier"](bert)
            net.output.initialize(ctx=d2l.try_all_gpus())
            net.output.weight.shape = (3, 32)
            for tensor, array in zip((net.output.weight, net.output.bias), output, strict=True):
                tensor.set_data(loop.tensor(array))
    return net


def arrays_of(net, loop):
    if hasattr(net, "state_dict"):
        return {names.from_torch(k): loop.array(v) for k, v in net.state_dict().items()}
    parameters = net._collect_params_with_prefix()
    return {names.from_mxnet(k): p.data().asnumpy() for k, p in parameters.items()}


@pytest.mark.parametrize("steps", [1, 5])
def test_steps_against_the_reference(d2l, backend, golden, loop, tmp_path, steps):
    net = cell_classifier(d2l, backend, golden, loop, tmp_path)
    batch, devices = golden.batch, d2l.try_all_gpus()
    with loop.scope():
        X = [loop.tensor(array) for array in batch.inputs()]
        if backend.name == "torch":
            import torch

            y, loss = loop.tensor(batch.labels).long(), torch.nn.CrossEntropyLoss(reduction="none")
            trainer = torch.optim.Adam(net.parameters(), lr=LR)
        else:
            from mxnet import gluon

            y = loop.tensor(batch.labels.astype(np.float32))
            loss = gluon.loss.SoftmaxCrossEntropyLoss()
            trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": LR})
        sums = [d2l.train_batch_ch13(net, X, y, loss, trainer, devices) for _ in range(steps)]
    check_step(arrays_of(net, loop), golden.steps[steps], golden.grads, threshold=1e-3, steps=steps)
    assert float(sums[0][0]) == pytest.approx(float(golden.values["loss"].sum()), abs=2e-5)
    assert sums[0][1] == (golden.values["logits"].argmax(1) == batch.labels).sum()


def test_outputs_against_the_reference(d2l, backend, golden, loop, tmp_path):
    """Those of padding, too."""
    net = cell_classifier(d2l, backend, golden, loop, tmp_path)
    with loop.scope():
        inputs = [loop.tensor(array) for array in golden.batch.inputs()]
        encoded, logits = loop.array(net.encoder(*inputs)), loop.array(net(inputs))
    assert parity.max_abs_difference(encoded, golden.values["encoded"]) <= 1e-5
    assert parity.max_abs_difference(logits, golden.values["logits"]) <= 1e-5
