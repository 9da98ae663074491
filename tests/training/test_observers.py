"""What watches a run: TensorBoard, a progress bar, log lines, a notebook's curve, a user's own."""

import base64
import io
import json
import re
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from small_runs import NUM_PAIRS, STEPS, before_step, fit, new_trainer, signal_at

from bertnli._util.progress import duration
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
pytestmark = pytest.mark.usefixtures("no_pictures")


def read_events(file):
    """Yield the events of a file, whose records are length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    raw, start = file.read_bytes(), 0
    while start < len(raw):
        (length,) = struct.unpack_from("<Q", raw, start)
        yield Event.FromString(raw[start + 12 : start + 12 + length])
        start += length + 16


def visible(folder):
    """Return the values that TensorBoard shows: a new session hides earlier events of its steps."""
    values = {}
    for file in sorted(folder.iterdir()):
        for event in read_events(file):
            if event.session_log.status == event.session_log.START:
                values = {key: value for key, value in values.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in values
                values[value.tag, event.step] = value.simple_value
    return values


def assert_shows_the_run(home, history):
    """Check that TensorBoard shows each number of the run once, and nothing else."""
    expected = {(STEP_LOSS, step): loss for step, loss in enumerate(history.step_losses, 1)}
    for line in map(json.loads, (home / "run" / "metrics.jsonl").read_text().splitlines()):
        expected |= {(tag, line["steps"]): line[name] for tag, name in EPOCH_TAGS.items()}
    assert visible(home / "tb") == {key: np.float32(value) for key, value in expected.items()}


@pytest.mark.parametrize("at", [None, 3, STEPS, STEPS + 2])
def test_tensorboard_shows_the_run(backend, tmp_path, at):
    """Also a run that was killed at a step, some steps after its last state."""
    trainer, data = new_trainer(backend)
    options = {"output": tmp_path / "run", "tensorboard": tmp_path / "tb", "epochs": EPOCHS}
    if at is not None:
        before_step(trainer, at + 2, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(trainer, data, save_every=2, **options)
        trainer, data = new_trainer(backend)
    history = fit(trainer, data, resume=True, **options)
    assert len(history.step_losses) == EPOCHS * STEPS
    assert_shows_the_run(tmp_path, history)


def test_a_tensorboard_folder_of_another_run_is_refused(backend, tmp_path, monkeypatch):
    trainer, data = new_trainer(backend)
    options = {"output": tmp_path / "run", "tensorboard": tmp_path / "tb", "epochs": 1}
    fit(trainer, data, epochs=1, tensorboard=tmp_path / "tb")
    with pytest.raises(ConfigError, match="earlier run; name a folder for each"):
        fit(trainer, data, epochs=1, tensorboard=tmp_path / "tb")
    assert_shows_the_run(tmp_path, fit(trainer, data, overwrite=True, **options))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(BackendError, match=r'pip install "bertnli\[tensorboard\]"'):
        fit(trainer, data, tensorboard="tb")


class Recorder(Observer):
    """Records its calls."""

    def __init__(self):
        self.calls = []

    def on_start(self, state):
        self.calls.append(f"start {state.step}")

    def on_epoch_start(self, state):
        self.calls.append(f"epoch {len(state.history.epochs) + 1} {state.progress.steps}")

    def on_step(self, state):
        self.calls.append(f"step {state.step}")

    def on_epoch_end(self, state):
        self.calls.append(f"trained {state.progress.steps}")

    def on_dev_batch(self, state, num_pairs):
        self.calls.append(f"dev {num_pairs}")

    def on_epoch(self, state):
        self.calls.append(f"scored {state.history.epochs[-1].epoch}")

    def on_end(self):
        self.calls.append("end")


def test_calls_of_an_observer(backend, tmp_path):
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
    assert observer.calls == rest and records == history.epochs[1:]
    observer = Recorder()
    observer.on_step = lambda state: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(*new_trainer(backend), observers=[observer])
    assert observer.calls[-1] == "end"


def test_the_bar(backend, monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert isinstance(progress_observer(1, None), ProgressBar)
    fit(*new_trainer(backend), epochs=EPOCHS, progress=True)
    text = terminal.getvalue()
    assert "epoch 1/2:" in text and f"{NUM_PAIRS}/{NUM_PAIRS}" in text and ", acc 0." in text
    assert "epoch 2/2: 100%" in text and "IPython" not in sys.modules


def test_a_log_gets_a_line_every_half_minute(backend, monkeypatch, capsys):
    """With steps of 12 seconds, every third has a line."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(progress_observer(EPOCHS, NUM_PAIRS), LogProgress)
    observer = LogProgress(EPOCHS, NUM_PAIRS, clock(12.0))
    fit(*new_trainer(backend), epochs=EPOCHS, observers=[observer])
    lines = capsys.readouterr().err.splitlines()
    left = (2 * NUM_PAIRS - 48) * 36 / 48
    expected = (
        rf"epoch 1/2: 48 of {NUM_PAIRS} pairs, step 3, loss \d\.\d{{3}}, acc \d\.\d{{3}}, "
        rf"1\.3 pairs/s, about {duration(left)} left"
    )
    assert re.fullmatch(expected, lines[0])
    assert lines[1].startswith("epoch 2/2: 48 of 75 pairs, step 8, ") and len(lines) == 2


def clock(step):
    """Return a function that gives the time, which goes on by a step at each call."""
    times = iter(np.arange(100.0, 1e5, step))
    return lambda: next(times)


def test_the_speed_of_a_resumed_run_in_a_log(capsys):
    """Pairs of before the stop do not count in pairs/s; the length of a loader is unknown."""
    state = TrainingState({}, progress=EpochProgress(num_pairs=600))
    observer = LogProgress(1, None, clock(60.0))
    observer.on_epoch_start(state)
    state.progress.num_pairs += 120
    observer.on_step(state)
    line = "epoch 1/1: 720 pairs, step 0, loss 0.000, acc 0.000, 2.0 pairs/s\n"
    assert capsys.readouterr().err == line
    observer.on_epoch_end(state)
    observer.on_dev_batch(state, 300)
    assert capsys.readouterr().err == "epoch 1/1, dev set: 300 pairs, 5.0 pairs/s\n"


@pytest.mark.needs("torch")
def test_the_command_s_options(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bertnli._util.progress.EVERY", 0.0)
    command = ["train", "--train", "sample", "--backend", "torch", "--devices", "cpu"]
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
def test_a_real_notebook_shows_one_picture_that_is_updated():
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
    assert picture.data["text/plain"] == printed.strip() and "epoch 2:" in printed


class FakeIPython:
    """Records what is displayed."""

    def __init__(self, monkeypatch):
        self.contents = []
        module = type(sys)("IPython")
        module.version_info = (9, 0)  # which matplotlib asks for
        module.display = type(sys)("IPython.display")
        module.display.display = self.display
        module.get_ipython = lambda: type("Shell", (), {"kernel": object()})
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", module.display)

    def display(self, content, raw, display_id):
        assert raw and display_id and not self.contents
        self.contents.append(content)
        return self

    def update(self, content, raw):
        assert raw
        self.contents.append(content)


def test_a_notebook_s_curve_is_drawn_at_most_twice_a_second(monkeypatch):
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
    text = ipython.contents[-1]["text/plain"]
    assert "epoch 1/3: 400 of 1000 pairs, loss 0.000" in text and "80.0 pairs/s" in text


def test_a_notebook_without_matplotlib_gets_text(monkeypatch):
    ipython = FakeIPython(monkeypatch)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    LiveCurve(1, None).on_start(TrainingState({}))
    assert ipython.contents == [{"text/plain": "training begins"}]
