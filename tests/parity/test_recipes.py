"""Recipes on both backends, against PyTorch's own functions and against each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from every_setting import ARCHITECTURE, DEBERTA
from small_nets import classifier
from torch.optim.swa_utils import AveragedModel

import bertnli
from bertnli import parity
from bertnli.backends.torch import optimizer
from bertnli.data.batches import batches
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.training.optimizer import TensorRate, dense_moments
from bertnli.training.sets import smoothed

LR, DECAY, LAYERS = 1e-3, 0.1, 0.5
TABLE = "encoder.token_embedding.weight"
#: All settings of recipes at once.
EVERYTHING = {
    "schedule": "linear",
    "warmup": 0.2,
    "weight_decay": DECAY,
    "clip_norm": 0.5,
    "layer_decay": LAYERS,
    "label_smoothing": 0.1,
    "average": 0.5,
}


def new_trainer(nli, config, **settings):
    return nli.Trainer(classifier(nli, config), LR, devices="cpu", **settings)


def oracle(starts):
    """Return tensors and PyTorch's AdamW in float64, with the rates of a model of two blocks."""
    tensors = {name: torch.tensor(a, dtype=torch.float64) for name, a in starts.items()}
    groups = []
    for name, tensor in tensors.items():
        powers = {"encoder.blks.1": 1, "encoder.blks.0": 2, "hidden": 0, "output": 0}
        power = next((n for layer, n in powers.items() if name.startswith(layer)), 3)
        decayed = not name.endswith(("bias", "ln.weight"))
        rate = {"lr": LR * LAYERS**power, "weight_decay": DECAY if decayed else 0.0}
        groups.append({"params": [tensor], "name": name, **rate})
    return tensors, torch.optim.AdamW(groups)


def check(arrays, expected, tolerance):
    for name, array in arrays.items():
        right = expected[name].numpy()
        apart = np.abs(array - right) / np.maximum(1, np.abs(right))
        assert apart.max() <= tolerance, name


def test_decay_rates_and_clipping_are_torch_s(backend, loop, tiny):
    """The norms of the gradients are above and below the threshold; the moments show clipping."""
    settings = {"weight_decay": DECAY, "layer_decay": LAYERS, "clip_norm": 20.0}
    trainer = new_trainer(backend, tiny, **settings)
    starts = trainer.net.arrays()
    tensors, optimizer = oracle(starts)
    rng = np.random.default_rng(0)
    norms = []
    for scale in (1.0, 0.01, 1.0):
        for name, tensor in tensors.items():
            gradient = scale * rng.normal(size=tensor.shape)
            if name == TABLE:
                gradient[100:] = 0  # rows that no batch has used
            tensor.grad = torch.tensor(gradient.astype(np.float32), dtype=torch.float64)
        given = {name: tensor.grad.numpy().copy() for name, tensor in tensors.items()}
        norms.append(float(torch.nn.utils.clip_grad_norm_(tensors.values(), 20.0)))
        loop.take_step(trainer, given, LR)
        optimizer.step()
        check(trainer.net.arrays(), tensors, 5e-7)
        state = trainer.engine.optimizer_arrays()
        for name, tensor in tensors.items():
            m, v = dense_moments(state, name, tuple(tensor.shape))
            # MXNet's 1 - 0.999 is that of float32.
            for ours, key, tolerance in ((m, "exp_avg", 3e-6), (v, "exp_avg_sq", 3e-5)):
                right = optimizer.state[tensor][key].numpy()
                assert np.abs(ours - right).max() <= tolerance * np.abs(right).max(), (name, key)
    assert min(norms) < 20 < max(norms)
    unused = trainer.net.arrays()[TABLE][100:] / starts[TABLE][100:]
    np.testing.assert_allclose(unused, (1 - LR * LAYERS**3 * DECAY) ** 3, rtol=1e-6)


def test_a_step_clips_what_the_gradients_are(backend, tiny, make_batch):
    """The gradients are of parts that share tokens; on MXNet also of two devices."""
    batch = make_batch(7, vocab_size=20)
    for devices in ("cpu",) if backend.name == "torch" else ("cpu", "cpu:0,cpu:1"):
        trainer = new_trainer(backend, tiny, clip_norm=0.05, micro_batch_size=2)
        if devices != "cpu":
            trainer = backend.Trainer(trainer.net, clip_norm=0.05, devices=devices)
        gradients = trainer.gradients(batch, 0)
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
        assert norm > 0.1
        trainer.train_step(batch, LR, 0)
        for name, gradient in gradients.items():
            m, _ = dense_moments(trainer.engine.optimizer_arrays(), name, gradient.shape)
            apart = np.abs(m - 0.1 * gradient * (0.05 / norm)).max()
            assert apart <= 1e-5 * np.abs(m).max() or parity.is_key_bias(name), name


def test_torch_s_sparse_gradients_with_a_row_twice():
    """Gradients of the same row count as their sum, also in the norm."""
    tables, others = ([torch.nn.Parameter(torch.ones(5, 3)) for _ in range(2)] for _ in "ab")
    values = torch.tensor([[3.0, 0, 0], [-1.0, 2, 0], [0, 0, 1.0]])
    sparse = torch.sparse_coo_tensor([[1, 1, 3]], values, (5, 3), check_invariants=True)
    tables[0].grad, tables[1].grad = sparse, sparse.to_dense()
    for other in others:
        other.grad = torch.ones(5, 3)
    named = {"table": tables[0], "other": others[0]}
    rates = dict.fromkeys(named, TensorRate(1.0, DECAY))
    ours = optimizer.Adam(named, "table", rates, clip_norm=0.5)
    theirs = torch.optim.AdamW([tables[1], others[1]], LR, weight_decay=DECAY)
    torch.nn.utils.clip_grad_norm_([tables[1], others[1]], 0.5)
    theirs.step()
    ours.step(LR)
    for name, tensor in (("table", tables[1]), ("other", others[1])):
        m, _ = dense_moments(ours.arrays(), name, (5, 3))
        np.testing.assert_allclose(m, theirs.state[tensor]["exp_avg"], rtol=1e-6)
        np.testing.assert_allclose(named[name].detach(), tensor.detach(), rtol=1e-6)


def test_soft_targets_weigh_the_classes_losses(backend, tiny, make_batch):
    """The loss is linear in the targets, and so are its gradients."""
    trainer = new_trainer(backend, tiny, micro_batch_size=4)
    batch = make_batch(6)
    soft = smoothed(batch, 0.3, 3)
    labels = torch.tensor(batch.labels).long()
    logits = torch.tensor(trainer.net.logits(batch))
    expected = torch.nn.functional.cross_entropy(
        logits, labels, label_smoothing=0.3, reduction="sum"
    )
    gradients = trainer.gradients(soft, 0)
    parts = [(0.7, batch.labels), *((0.1, np.full_like(batch.labels, k)) for k in range(3))]
    each = [(w, trainer.gradients(replace(batch, labels=ids), 0)) for w, ids in parts]
    for name, gradient in gradients.items():
        right = sum(weight * arrays[name] for weight, arrays in each)
        if not parity.is_key_bias(name):
            assert np.abs(gradient - right).max() <= 1e-5 * np.abs(right).max(), name
    assert trainer.train_step(soft, LR, 0).read()[0] == pytest.approx(float(expected), abs=1e-5)


def sample(num_pairs):
    whole = bertnli.read("sample", "train")
    corpus = bertnli.Corpus(*(column[:num_pairs] for column in whole), tokenized=False)
    return PairDataset(corpus, 40, build_vocab(whole, 2), verbose=False)


def small_net(nli, data, **encoder):
    return nli.BERTClassifier(
        nli.BERTModel(len(data.vocab), 16, 24, 2, 2, 0.0, 40, vocab=data.vocab, **encoder)
    )


def parameters(arrays):
    return torch.nn.ParameterDict({n.replace(".", "/"): torch.tensor(a) for n, a in arrays.items()})


def test_the_last_weights_are_averaged(backend, tmp_path):
    """The average of the last 5 of 10 steps is that of torch.optim.swa_utils."""
    data = sample(80)
    plain = backend.Trainer(small_net(backend, data), LR, "cpu")
    expected = plain.fit(data, None, 2, 16, progress=False)
    trainer = backend.Trainer(small_net(backend, data), LR, "cpu", average=0.5)
    step, evaluate, weights, scored = trainer.train_step, trainer.eval_step, [], []

    def watched(*arguments):
        weights.append(trainer.net.arrays())  # before the step
        return step(*arguments)

    def kept(batch):
        scored.append(trainer.net.arrays())
        return evaluate(batch)

    trainer.train_step, trainer.eval_step = watched, kept
    history = trainer.fit(data, sample(20), 2, 16, progress=False, output=tmp_path)
    assert history.step_losses == expected.step_losses
    model = parameters(plain.net.arrays())
    average = AveragedModel(model)
    for arrays in (*weights[6:], plain.net.arrays()):
        model.load_state_dict(parameters(arrays).state_dict())
        average.update_parameters(model)
    assert int(average.n_averaged) == 5
    averaged = trainer.net.arrays()
    check(averaged, {n.replace("/", "."): p.detach() for n, p in average.module.items()}, 3e-7)
    assert np.abs(averaged["output.weight"] - plain.net.arrays()["output.weight"]).max() > 1e-4
    last = bertnli.load(tmp_path / "last", backend.name).arrays()
    for name, array in averaged.items():
        assert array.tobytes() == last[name].tobytes() == scored[-1][name].tobytes()


@pytest.mark.parametrize(
    "encoder", [{}, ARCHITECTURE, DEBERTA], ids=["book", "families", "DeBERTa"]
)
def test_everything_at_once_on_both_backends(both, encoder):
    data = sample(96)
    histories, nets = [], []
    for nli in both:
        net = small_net(nli, data, **encoder)
        trainer = nli.Trainer(net, 3e-3, "cpu", **EVERYTHING)
        first = next(batches(data, 16, shuffle=True))
        logits, labels = torch.tensor(net.logits(first)), torch.tensor(first.labels).long()
        smooth = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        histories.append(trainer.fit(data, data, 3, 16, progress=False))
        assert histories[-1].step_losses[0] == pytest.approx(float(smooth), abs=5e-6)
        plain = torch.nn.functional.cross_entropy(logits, labels)
        assert abs(float(plain - smooth)) > 1e-5
        nets.append(net.arrays())
    ours, theirs = (np.array(history.step_losses) for history in histories)
    assert np.abs(ours - theirs).max() <= 1e-5
    for a, b in zip(*(history.epochs for history in histories), strict=True):
        assert a.dev_loss == pytest.approx(b.dev_loss, abs=1e-5)
    rows = [row for row in parity.compare_arrays(*nets) if not parity.is_key_bias(row.name)]
    assert max(row.absolute for row in rows) <= 3e-4
