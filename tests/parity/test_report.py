"""`bertnli parity` says whether the backends agree, and which one is off."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.errors import BackendError
from bertnli.formats.convert import FORMATS
from bertnli.parity.report import parity_report

BOOK = BERTConfig(40, 32, 64, 4, 3, 0.1, 40)
DEVLIN = BERTConfig(40, 32, 64, 4, 3, 0.1, 40, "gelu", True, 1e-12)
CLASSES = ("neutral", "contradiction", "entailment")


@pytest.mark.parametrize(
    ("config", "labels"), [(BOOK, CLASSES), (DEVLIN, ("yes", "no")), (DEVLIN, None)], ids=str
)
def test_the_backends_agree(both, make_checkpoint, config, labels):
    given = make_checkpoint(config, labels)
    report = parity_report(given, both, steps=3)
    assert report.agrees, report.problems
    names = [row.name for row in report.activations]
    assert names[0] == "encoder.embedding"
    assert names[-4:] == ["encoder.blks.2", "hidden", "output", "output (packed)"]
    versus = {"torch - mxnet", "torch - referee", "mxnet - referee"}
    assert all({*row.absolute} == {*row.relative} == versus for row in report.activations)
    tensors = {name for name in given.arrays if not name.startswith(("mlm.", "nsp."))}
    assert {row.name for row in report.gradients} == tensors | {"output.weight", "output.bias"}
    assert [row.name for row in report.layer_gradients()] == names[:-1]
    for losses in report.losses.values():
        assert np.abs(np.subtract(losses, report.losses["referee"])).max() <= 1e-5
        assert len(set(losses)) == 3
    # No activation is zero.
    assert all(0 < row.absolute["mxnet - referee"] < 1e-4 for row in report.activations)


def scaled(changes):
    """Return a patch of a method that returns arrays: some arrays are multiplied."""

    def patch(method):
        def gradients(self, *arguments):
            arrays = method(self, *arguments)
            return {name: array * changes.get(name, 1) for name, array in arrays.items()}

        return gradients

    return patch


def wrong_weight(method):
    name = "encoder.blks.1.ffn.dense1.weight"
    return lambda self, arrays, source: method(
        self, {**arrays, name: arrays[name] * np.float32(1.01)}, source
    )


def large_steps(method):
    return lambda self, batch, lr, seed: method(self, batch, 3 * lr, seed)


WRONG = {
    "layer": ("BERTClassifier", "load_arrays", wrong_weight, "activations of encoder.blks.1 by"),
    "gradient": (
        "Trainer",
        "gradients",
        scaled({"encoder.blks.1.addnorm1.ln.bias": 1.01}),
        "gradients of encoder.blks.1.addnorm1.ln.bias by 1.0e-02",
    ),
    # Gradients are computed backwards; the first wrong one is reported.
    "two gradients": (
        "Trainer",
        "gradients",
        scaled({f"encoder.blks.{i}.attention.W_v.weight": x for i, x in ((0, 1.5), (2, 1.2))}),
        "gradients of encoder.blks.2.attention.W_v.weight by 2.0e-01",
    ),
    "step": ("Trainer", "train_step", large_steps, "the loss of step 2 by"),
}


@pytest.mark.parametrize("side", ["torch", "mxnet"])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_reported(both, make_checkpoint, monkeypatch, what, side):
    kind, method, patch, problem = WRONG[what]
    owner = getattr(both[side == "mxnet"], kind)
    monkeypatch.setattr(owner, method, patch(getattr(owner, method)))
    report = parity_report(make_checkpoint(BOOK, CLASSES), both, steps=3, lr=1e-3)
    text, other = "; ".join(report.problems), {"torch": "mxnet", "mxnet": "torch"}[side]
    assert f"{side} is off: {problem}" in text and "torch - mxnet" in text
    assert f"{other} is off" not in text
    if what == "two gradients":
        assert "1 more after it" in text
        rows = {row.name: row.relative[f"{side} - referee"] for row in report.layer_gradients()}
        assert rows["encoder.blks.0"] == pytest.approx(0.5, rel=1e-3)
        assert rows["encoder.blks.1"] < 1e-3


def test_a_small_gradient_counts_as_much(both, make_checkpoint, monkeypatch):
    """The gradient is a thousandth of the largest one, and wrong by a half."""
    given = make_checkpoint(DEVLIN, CLASSES)
    weight, small = "encoder.blks.1.ffn.dense2.weight", "encoder.blks.1.ffn.dense1.bias"
    arrays = {**given.arrays, weight: given.arrays[weight] * np.float32(1e-3)}
    trainer = both[0].Trainer
    monkeypatch.setattr(trainer, "gradients", scaled({small: 1.5})(trainer.gradients))
    report = parity_report(replace(given, arrays=arrays), both, steps=1)
    assert f"torch is off: gradients of {small} by 5.0e-01" in "; ".join(report.problems)


def test_extreme_weights(both, make_checkpoint):
    """Padding stays masked beside large scores; an overflow of float32 counts as a difference."""
    given = make_checkpoint(DEVLIN, CLASSES)
    arrays = {name: array * np.float32(100) for name, array in given.arrays.items()}
    report = parity_report(replace(given, arrays=arrays), both, steps=0)
    assert max(report.activations[1].relative.values()) < 1e-4
    assert not any("activations" in problem for problem in report.problems)
    given = make_checkpoint(BOOK, CLASSES)
    hidden = np.sign(given.arrays["hidden.weight"]) * np.float32(3e38)
    report = parity_report(replace(given, arrays={**given.arrays, "hidden.weight": hidden}), both)
    assert any("activations of hidden by nan" in problem for problem in report.problems)


def test_one_backend_is_compared_with_the_referee(both, make_checkpoint):
    report = parity_report(make_checkpoint(DEVLIN, CLASSES), both[:1], steps=1)
    assert report.agrees and {*report.activations[0].relative} == {"torch - referee"}
    with pytest.raises(BackendError, match="no framework"):
        parity_report(make_checkpoint(DEVLIN, CLASSES), [])


@pytest.mark.needs("mxnet")
def test_the_command(tmp_path, make_checkpoint, capsys, monkeypatch):
    FORMATS["mxnet"](make_checkpoint(DEVLIN, CLASSES), tmp_path / "model")
    argv = ["parity", str(tmp_path / "model"), "--steps", "2"]
    assert main([*argv, "--plot", str(tmp_path / "curve.png")]) == 0
    out = capsys.readouterr().out
    assert "verdict: they agree" in out and "torch - referee" in out
    assert len([line for line in out.splitlines() if line.startswith("encoder.blks.")]) == 6
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    for plot in ("curve.txt", "nowhere/curve.png"):
        assert main([*argv, "--plot", str(tmp_path / plot)]) == 2
        assert "--plot" in capsys.readouterr().err
    monkeypatch.setattr("bertnli.parity.report.ACTIVATIONS", 1e-12)
    assert main([*argv, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] and report["agrees"] is False
    assert report["tolerances"]["losses"] == 1e-4 and len(report["losses"]["mxnet"]) == 2
