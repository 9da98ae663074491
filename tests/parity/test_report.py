"""`bertnli parity`: it finds agreement where there is any, and who is off where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.errors import BackendError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.convert import FORMATS
from bertnli.parity import is_key_bias
from bertnli.parity.report import ParityReport, parity_report

Make = Callable[..., Checkpoint]
Both = tuple[Backend, Backend]

BOOK = BERTConfig(40, 32, 64, 4, 3, 0.1, 40)
DEVLIN = BERTConfig(40, 32, 64, 4, 3, 0.1, 40, "gelu", True, 1e-12)
CLASSES = ("neutral", "contradiction", "entailment")


@pytest.mark.parametrize("config", [BOOK, DEVLIN], ids=["book", "Devlin"])
@pytest.mark.parametrize("labels", [CLASSES, ("yes", "no"), None], ids=str)
def test_the_backends_agree(both: Both, make_checkpoint: Make, config: BERTConfig, labels: Any):
    given = make_checkpoint(config, labels)
    report = parity_report(given, both, steps=3)
    assert report.agrees, report.problems
    assert report.backends == ("torch", "mxnet")
    names = [row.name for row in report.activations]
    assert names[0] == "encoder.embedding"
    assert names[-4:] == ["encoder.blks.2", "hidden", "output", "output (packed)"]
    versus = {"torch - mxnet", "torch - referee", "mxnet - referee"}
    assert all({*row.absolute} == {*row.relative} == versus for row in report.activations)
    tensors = {name for name in given.arrays if not name.startswith(("mlm.", "nsp."))}
    assert {row.name for row in report.gradients} == tensors | {"output.weight", "output.bias"}
    assert [row.name for row in report.layer_gradients()] == names[:-1]
    assert {*report.losses} == {"torch", "mxnet", "referee"}
    for losses in report.losses.values():
        assert np.abs(np.subtract(losses, report.losses["referee"])).max() <= 1e-5
        assert len(set(losses)) == 3
    # What is compared is not all zeros.
    assert all(0 < row.absolute["mxnet - referee"] < 1e-4 for row in report.activations)


def broken(report: ParityReport, side: str) -> str:
    """What the report says is off, after a check that the blame is right."""
    other = {"torch": "mxnet", "mxnet": "torch"}[side]
    text = "; ".join(report.problems)
    assert f"{side} is off" in text and "torch - mxnet" in text
    assert f"{other} is off" not in text
    return text


@pytest.mark.parametrize("side", ["torch", "mxnet"])
def test_a_wrong_layer_is_found(
    both: Both, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """One backend has another weight in its second block."""
    net_class = both[side == "mxnet"].BERTClassifier
    honest = net_class.load_arrays

    def off(self: Any, arrays: Any, source: str) -> None:
        weight = arrays["encoder.blks.1.ffn.dense1.weight"] * np.float32(1.01)
        honest(self, {**arrays, "encoder.blks.1.ffn.dense1.weight": weight}, source)

    monkeypatch.setattr(net_class, "load_arrays", off)
    text = broken(parity_report(make_checkpoint(BOOK, CLASSES), both, steps=1), side)
    assert f"{side} is off: activations of encoder.blks.1 by" in text


@pytest.mark.parametrize("side", ["torch", "mxnet"])
def test_a_wrong_gradient_is_found(
    both: Both, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    trainer_class = both[side == "mxnet"].Trainer
    honest = trainer_class.gradients

    def off(self: Any, batch: Any, seed: int) -> dict[str, Any]:
        found = honest(self, batch, seed)
        found["encoder.blks.2.attention.W_k.bias"] = np.ones_like(found["hidden.bias"])
        found["encoder.blks.1.addnorm1.ln.bias"] = found["encoder.blks.1.addnorm1.ln.bias"] * 1.01
        return found

    monkeypatch.setattr(trainer_class, "gradients", off)
    report = parity_report(make_checkpoint(DEVLIN, CLASSES), both, steps=1)
    text = broken(report, side)
    assert f"{side} is off: gradients of encoder.blks.1.addnorm1.ln.bias by 1.0e-02" in text
    assert "activations" not in text and "loss" not in text
    key_bias = next(row for row in report.gradients if is_key_bias(row.name) and "2" in row.name)
    assert max(key_bias.absolute.values()) >= 1  # seen, and no reason to complain


def test_a_small_gradient_counts_as_much(
    both: Both, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousandth of the largest in size, and off by a half."""
    given = make_checkpoint(DEVLIN, CLASSES)
    weight = "encoder.blks.1.ffn.dense2.weight"
    arrays = {**given.arrays, weight: given.arrays[weight] * np.float32(1e-3)}
    honest = both[0].Trainer.gradients  # type: ignore[attr-defined]
    small = "encoder.blks.1.ffn.dense1.bias"
    sizes = {}

    def off(self: Any, batch: Any, seed: int) -> dict[str, Any]:
        found = honest(self, batch, seed)
        sizes.update({name: float(np.linalg.norm(a)) for name, a in found.items()})
        return {**found, small: found[small] * 1.5}

    monkeypatch.setattr(both[0].Trainer, "gradients", off)
    report = parity_report(replace(given, arrays=arrays), both, steps=1)
    assert sizes[small] < 2e-3 * max(sizes.values())
    assert f"torch is off: gradients of {small} by 5.0e-01" in broken(report, "torch")


def test_the_first_wrong_gradient_is_the_last_layer_s(
    both: Both, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients are computed from the end on; a layer's row is the worst of its tensors."""
    honest = both[1].Trainer.gradients  # type: ignore[attr-defined]

    def off(self: Any, batch: Any, seed: int) -> dict[str, Any]:
        found = honest(self, batch, seed)
        for i, factor in ((0, 1.5), (2, 1.2)):
            name = f"encoder.blks.{i}.attention.W_v.weight"
            found[name] = found[name] * factor
        return found

    monkeypatch.setattr(both[1].Trainer, "gradients", off)
    report = parity_report(make_checkpoint(BOOK, CLASSES), both, steps=1)
    text = broken(report, "mxnet")
    assert "mxnet is off: gradients of encoder.blks.2.attention.W_v.weight by 2.0e-01" in text
    assert "1 more after it" in text
    rows = {row.name: row for row in report.layer_gradients()}
    assert rows["encoder.blks.0"].relative["mxnet - referee"] == pytest.approx(0.5, rel=1e-3)
    assert rows["encoder.blks.2"].relative["mxnet - referee"] == pytest.approx(0.2, rel=1e-3)
    assert rows["encoder.blks.1"].relative["mxnet - referee"] < 1e-3


def test_large_scores_do_not_let_padding_in(both: Both, make_checkpoint: Make) -> None:
    given = make_checkpoint(DEVLIN, CLASSES)
    arrays = {name: array * np.float32(100) for name, array in given.arrays.items()}
    report = parity_report(replace(given, arrays=arrays), both, steps=0)
    assert max(report.activations[1].relative.values()) < 1e-4
    assert not any("activations" in problem for problem in report.problems)


@pytest.mark.parametrize("side", ["torch", "mxnet"])
def test_a_wrong_step_is_found(
    both: Both, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    trainer_class = both[side == "mxnet"].Trainer
    honest = trainer_class.train_step
    monkeypatch.setattr(
        trainer_class, "train_step", lambda self, batch, lr, seed: honest(self, batch, 3 * lr, seed)
    )
    report = parity_report(make_checkpoint(BOOK, CLASSES), both, steps=3, lr=1e-3)
    assert f"{side} is off: the loss of step 2 by" in broken(report, side)


def test_a_broken_model_does_not_agree(both: Both, make_checkpoint: Make) -> None:
    given = make_checkpoint(BOOK, CLASSES)
    # Finite, but not the sum of what it gives in float32.
    hidden = np.sign(given.arrays["hidden.weight"]) * np.float32(3e38)
    report = parity_report(replace(given, arrays={**given.arrays, "hidden.weight": hidden}), both)
    assert not report.agrees
    assert any("activations of hidden by nan" in problem for problem in report.problems)


def test_one_backend_is_compared_with_the_referee(both: Both, make_checkpoint: Make) -> None:
    report = parity_report(make_checkpoint(DEVLIN, CLASSES), both[:1], steps=1)
    assert report.agrees and {*report.activations[0].relative} == {"torch - referee"}
    with pytest.raises(BackendError, match="no framework"):
        parity_report(make_checkpoint(DEVLIN, CLASSES), [])


@pytest.mark.needs("mxnet")
def test_the_command(
    tmp_path: Path,
    make_checkpoint: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FORMATS["mxnet"](make_checkpoint(DEVLIN, CLASSES), tmp_path / "model")
    argv = ["parity", str(tmp_path / "model"), "--steps", "2"]
    assert main([*argv, "--plot", str(tmp_path / "curve.png")]) == 0
    out = capsys.readouterr().out
    assert "verdict: they agree" in out and "torch - referee" in out
    assert len([line for line in out.splitlines() if line.startswith("encoder.blks.")]) == 6
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"] is True and len(found["losses"]["mxnet"]) == 2
    assert found["tolerances"]["losses"] == 1e-4
    for plot in ("curve.txt", "nowhere/curve.png"):
        assert main([*argv, "--plot", str(tmp_path / plot)]) == 2
        assert "--plot" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--steps", "-1"])
    capsys.readouterr()
    monkeypatch.setattr("bertnli.parity.report.ACTIVATIONS", 1e-12)
    assert main([*argv, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"]
    assert main([*argv]) == 1
    assert "verdict: they do not agree" in capsys.readouterr().out
