"""What watches a run: TensorBoard, a bar, lines in a log, a notebook's curve, a user's own."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from small_runs import NUM_PAIRS, STEPS, before_step, fit, new_trainer, signal_at

import bertnli
from bertnli._util.progress import duration
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.errors import BackendError, ConfigError
from bertnli.training.observers import (
    EPOCH_TAGS,
    EVERY,
    STEP_LOSS,
    LiveCurve,
    LogProgress,
    Observer,
    ProgressBar,
    progress_observer,
)
from bertnli.training.state import EpochProgress, TrainingState

EPOCHS = 2


def read_events(file: Path) -> Iterator[Any]:
    """Yield the events of a file, as the format is documented: length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    raw, start = file.read_bytes(), 0
    while start < len(raw):
        (length,) = struct.unpack_from("<Q", raw, start)
        yield Event.FromString(raw[start + 12 : start + 12 + length])
        start += length + 16


def visible(folder: Path) -> dict[tuple[str, int], float]:
    """What TensorBoard shows: a session's start hides the earlier events of later steps."""
    values: dict[tuple[str, int], float] = {}
    for file in sorted(folder.iterdir()):
        for event in read_events(file):
            if event.session_log.status == event.session_log.START:
                values = {key: value for key, value in values.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in values
                values[value.tag, event.step] = value.simple_value
    return values


def assert_shows_the_run(folder: Path, history: bertnli.History, lines: str) -> None:
    """Each number of the run once, and nothing else."""
    expected = {(STEP_LOSS, step): loss for step, loss in enumerate(history.step_losses, 1)}
    for line in map(json.loads, lines.splitlines()):
        expected |= {(tag, line["steps"]): line[name] for tag, name in EPOCH_TAGS.items()}
    assert visible(folder) == {key: np.float32(value) for key, value in expected.items()}


@pytest.mark.parametrize("at", [None, 3, STEPS, STEPS + 2])
def test_tensorboard_shows_the_run(backend: Backend, tmp_path: Path, at: int | None) -> None:
    """Also one that was killed, in an epoch or at its end, after steps that its state lacks."""
    trainer, data = new_trainer(backend)
    options: dict[str, Any] = {"output": tmp_path / "run", "tensorboard": tmp_path / "tb"}
    if at is not None:

        def kill() -> None:
            raise RuntimeError("killed")

        before_step(trainer, at + 2, kill)
        with pytest.raises(RuntimeError, match="killed"):
            fit(trainer, data, epochs=EPOCHS, save_every=2, **options)
        trainer, data = new_trainer(backend)
    history = fit(trainer, data, epochs=EPOCHS, resume=True, **options)
    assert len(history.step_losses) == EPOCHS * STEPS
    assert_shows_the_run(tmp_path / "tb", history, (tmp_path / "run/metrics.jsonl").read_text())


def test_a_folder_of_another_run_is_refused(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    fit(trainer, data, epochs=1, tensorboard=tmp_path / "tb")
    with pytest.raises(ConfigError, match="earlier run; name a folder for each"):
        fit(trainer, data, epochs=1, tensorboard=tmp_path / "tb")
    options: dict[str, Any] = {"output": tmp_path / "run", "tensorboard": tmp_path / "tb"}
    history = fit(trainer, data, epochs=1, overwrite=True, **options)
    assert_shows_the_run(tmp_path / "tb", history, (tmp_path / "run/metrics.jsonl").read_text())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"TensorBoard folder .* is a file; give a folder"):
        fit(trainer, data, tensorboard=tmp_path / "file")


def test_without_tensorboardx(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(BackendError, match=r'pip install "bertnli\[tensorboard\]"'):
        fit(*new_trainer(backend), tensorboard="tb")


class Recorder(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_start(self, state: Any) -> None:
        self.calls.append(f"start {state.step}")

    def on_epoch_start(self, state: Any) -> None:
        self.calls.append(f"epoch {len(state.history.epochs) + 1} {state.progress.steps}")

    def on_step(self, state: Any) -> None:
        self.calls.append(f"step {state.step}")

    def on_epoch_end(self, state: Any) -> None:
        self.calls.append(f"trained {state.progress.steps}")

    def on_dev_batch(self, state: Any, num_pairs: int) -> None:
        self.calls.append(f"dev {num_pairs}")

    def on_epoch(self, state: Any) -> None:
        self.calls.append(f"scored {state.history.epochs[-1].epoch}")

    def on_end(self) -> None:
        self.calls.append("end")


def test_an_observer_is_told_of_everything(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    signal_at(trainer, STEPS + 3, signal.SIGINT)
    observer = Recorder()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, tmp_path, epochs=EPOCHS, observers=[observer])
    steps = [f"step {i + 1}" for i in range(2 * STEPS)]
    scored = [f"trained {STEPS}", f"dev {NUM_PAIRS}"]
    first = ["start 0", "epoch 1 0", *steps[:STEPS], *scored, "scored 1", "epoch 2 0"]
    assert observer.calls == [*first, *steps[STEPS : STEPS + 3], "trained 3", "end"]
    observer, records = Recorder(), []
    options = {"observers": [observer], "on_epoch": records.append}
    history = fit(*new_trainer(backend), tmp_path, epochs=EPOCHS, resume=True, **options)
    rest = [f"start {STEPS + 3}", "epoch 2 3", *steps[STEPS + 3 :], *scored, "scored 2", "end"]
    assert observer.calls == rest
    assert records == history.epochs[1:]


def test_an_observer_s_error_ends_the_run(backend: Backend) -> None:
    class Broken(Recorder):
        def on_step(self, state: Any) -> None:
            raise OSError("no space left")

    observer = Broken()
    with pytest.raises(OSError, match="no space left"):
        fit(*new_trainer(backend), observers=[observer])
    assert observer.calls[-1] == "end"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(progress_observer(1, None), ProgressBar)
    fit(*new_trainer(backend), epochs=EPOCHS, progress=True)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "epoch 1/2:" in text and f"{NUM_PAIRS}/{NUM_PAIRS}" in text and ", acc 0." in text
    assert "epoch 2/2: 100%" in text
    assert "IPython" not in sys.modules


class Clock:
    """Seconds; each look at it takes some."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_log_gets_a_line_now_and_then(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With steps of 12 seconds, every third has a line."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(progress_observer(EPOCHS, NUM_PAIRS), LogProgress)
    observer = LogProgress(EPOCHS, NUM_PAIRS, Clock(12.0))
    fit(*new_trainer(backend), epochs=EPOCHS, observers=[observer])
    lines = capsys.readouterr().err.splitlines()
    left = (2 * NUM_PAIRS - 48) * 36 / 48
    expected = (
        rf"epoch 1/2: 48 of {NUM_PAIRS} pairs, step 3, loss \d\.\d{{3}}, acc \d\.\d{{3}}, "
        rf"1\.3 pairs/s, about {duration(left)} left"
    )
    assert re.fullmatch(expected, lines[0])
    assert lines[1].startswith("epoch 2/2: 48 of 75 pairs, step 8, ") and len(lines) == 2


def test_a_resumed_run_s_speed_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """What was done before the stop is not counted in pairs/s; a loader's length is unknown."""
    state = TrainingState({}, progress=EpochProgress(num_pairs=600))
    observer = LogProgress(1, None, Clock(60.0))
    observer.on_epoch_start(state)
    state.progress.num_pairs += 120
    observer.on_step(state)
    line = "epoch 1/1: 720 pairs, step 0, loss 0.000, acc 0.000, 2.0 pairs/s\n"
    assert capsys.readouterr().err == line
    observer.on_epoch_end(state)
    observer.on_dev_batch(state, 300)
    assert capsys.readouterr().err == "epoch 1/1, dev set: 300 pairs, 5.0 pairs/s\n"


def test_the_command_s_options(
    backend: Backend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bertnli._util.progress.EVERY", 0.0)
    command = ["train", "--train", "sample", "--backend", backend.name, "--devices", "cpu"]
    command += ["--num-hiddens", "16", "--ffn-num-hiddens", "24", "--num-heads", "2"]
    command += ["--num-blks", "1", "--epochs", "1", "--batch-size", "256", "--lr", "1e-3"]
    command += ["--output", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "tb")]
    for option, lines in (("--quiet", 0), ("--overwrite", 5)):  # of four steps and the dev set
        assert main([*command, option]) == 0
        assert len(re.findall("(?m)^epoch 1/1", capsys.readouterr().err)) == lines
        assert {tag for tag, _ in visible(tmp_path / "tb")} == {STEP_LOSS, *EPOCH_TAGS}


NOTEBOOK = """
import bertnli, sys
sys.path[:0] = {paths!r}
import small_runs
trainer, data = small_runs.new_trainer(bertnli.get_backend("torch"))
history = small_runs.fit(trainer, data, epochs=2, progress=True)
print(history.epochs[-1])
"""


@pytest.mark.needs("torch")
def test_the_curve_of_a_notebook() -> None:
    """In a real kernel: one picture, drawn anew in its place, and no bar's lines."""
    import nbclient
    import nbformat

    code = NOTEBOOK.format(paths=[str(Path(__file__).parent)])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    limits = {"timeout": processes.LIMIT, "startup_timeout": processes.LIMIT}
    nbclient.NotebookClient(notebook, **limits).execute()
    outputs = notebook.cells[0].outputs
    (picture,) = (output for output in outputs if output.output_type == "display_data")
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert picture.data["text/plain"] == printed.strip()
    assert "epoch 2:" in printed


class FakeIPython:
    """Remembers what is displayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: list[dict[str, str]] = []
        module: Any = type(sys)("IPython")
        module.version_info = (9, 0)  # which matplotlib asks for
        module.display = type(sys)("IPython.display")
        module.display.display = self.display
        module.get_ipython = lambda: type("Shell", (), {"kernel": object()})
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", module.display)

    def display(self, content: dict[str, str], raw: bool, display_id: bool) -> Any:
        assert raw and display_id and not self.contents
        self.contents.append(content)
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        assert raw
        self.contents.append(content)


def test_a_curve_is_drawn_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython, now = FakeIPython(monkeypatch), 0.0
    assert isinstance(progress_observer(3, 1000), LiveCurve)
    curve = LiveCurve(3, 1000, lambda: now)
    state = TrainingState({}, progress=EpochProgress())
    curve.on_start(state)
    curve.on_epoch_start(state)
    for step in range(1, 41):  # five seconds of steps
        now += 0.125
        state.history.step_losses.append(1 / step)
        state.progress.num_pairs += 10
        curve.on_step(state)
    assert len(ipython.contents) - 1 == 5 / EVERY
    assert "epoch 1/3: 400 of 1000 pairs, loss 0.000" in ipython.contents[-1]["text/plain"]
    assert "80.0 pairs/s" in ipython.contents[-1]["text/plain"]


def test_a_notebook_without_matplotlib_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython = FakeIPython(monkeypatch)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    LiveCurve(1, None).on_start(TrainingState({}))
    assert ipython.contents == [{"text/plain": "training begins"}]
