"""What watches a run: TensorBoard's files, the bar, a notebook's curve, and a user's own."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest

import bertnli
from bertnli._util.progress import duration
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import BackendError, ConfigError
from bertnli.training.observers import Observer, progress_observer
from bertnli.training.observers.shown import EVERY, LiveCurve, LogProgress, ProgressBar
from bertnli.training.observers.tensorboard import EPOCH_TAGS, STEP_LOSS, read_events

EPOCHS, BATCH_SIZE = 2, 64
STEPS = 13  # of an epoch, of 780 pairs


def new_trainer(nli: Backend) -> tuple[Any, Any]:
    corpus = bertnli.read("sample", "train")
    vocab = build_vocab(corpus, 2)
    bert: Any = nli.BERTModel(len(vocab), 16, 24, 2, 1, 0.1, 40, vocab=vocab)
    data = PairDataset(corpus, 40, vocab, verbose=False)
    return nli.Trainer(nli.BERTClassifier(bert), lr=3e-3, devices="cpu", seed=3), data


def fit(trainer: Any, data: Any, **options: Any) -> bertnli.History:
    given = {"progress": False, **options}
    found: bertnli.History = trainer.fit(data, data, EPOCHS, BATCH_SIZE, **given)
    return found


def events(folder: Path) -> list[tuple[str, int, float, float]]:
    """(tag, step, value, time) of all of a folder's event files, whoever wrote them."""
    return [
        (value.tag, event.step, value.simple_value, event.wall_time)
        for file in sorted(folder.glob("events.out.tfevents.*"))
        for event in read_events(file)
        for value in event.summary.value
    ]


def assert_are_the_run_s(folder: Path, history: bertnli.History, lines: str) -> None:
    """Each number of the run is there once, and nothing else."""
    found = events(folder)
    assert max(Counter((tag, step) for tag, step, _, _ in found).values()) == 1
    values = {(tag, step): value for tag, step, value, _ in found}
    expected = {(STEP_LOSS, step): loss for step, loss in enumerate(history.step_losses, 1)}
    for line in map(json.loads, lines.splitlines()):
        expected |= {(tag, line["steps"]): line[name] for tag, name in EPOCH_TAGS.items()}
    assert values.keys() == expected.keys()
    for key, value in expected.items():
        assert values[key] == np.float32(value), key


def test_tensorboard_has_the_run_s_numbers(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    history = fit(trainer, data, output=tmp_path / "run", tensorboard=tmp_path / "tb")
    assert len(history.step_losses) == EPOCHS * STEPS
    assert_are_the_run_s(tmp_path / "tb", history, (tmp_path / "run/metrics.jsonl").read_text())


@pytest.mark.parametrize("at", [5, STEPS, STEPS + 6])
def test_a_run_that_goes_on_doubles_no_event(backend: Backend, tmp_path: Path, at: int) -> None:
    """Stopped in an epoch and at its end, after steps that the state does not know of."""
    trainer, data = new_trainer(backend)
    step, calls = trainer.train_step, 0

    class Killed(Exception):
        pass

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at + 2:
            raise Killed
        return step(*arguments)

    trainer.train_step = killed
    options = {"output": tmp_path / "run", "tensorboard": tmp_path / "tb"}
    with pytest.raises(Killed):
        fit(trainer, data, save_every=4, **options)
    before = {(tag, step): when for tag, step, _, when in events(tmp_path / "tb")}
    assert (STEP_LOSS, at) in before
    # What a crash leaves of a record, and a file of somebody else, which is let be.
    (file,) = (tmp_path / "tb").iterdir()
    with file.open("ab") as stream:
        stream.write(file.read_bytes()[:30])
    (tmp_path / "tb/events.out.tfevents.1.other").write_bytes(b"")
    again, data = new_trainer(backend)
    history = fit(again, data, resume=True, **options)
    assert_are_the_run_s(tmp_path / "tb", history, (tmp_path / "run/metrics.jsonl").read_text())
    after = {(tag, step): when for tag, step, _, when in events(tmp_path / "tb")}
    assert after[STEP_LOSS, 1] == before[STEP_LOSS, 1]
    assert len(list((tmp_path / "tb").iterdir())) == 2


def test_a_folder_of_another_run_is_refused(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    fit(trainer, data, tensorboard=tmp_path / "tb")
    with pytest.raises(ConfigError, match="earlier run; name a folder for each"):
        fit(trainer, data, tensorboard=tmp_path / "tb")
    options: dict[str, Any] = {"output": tmp_path / "run", "tensorboard": tmp_path / "tb"}
    history = fit(trainer, data, overwrite=True, **options)
    assert_are_the_run_s(tmp_path / "tb", history, (tmp_path / "run/metrics.jsonl").read_text())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"TensorBoard folder .* is a file; give a folder"):
        fit(trainer, data, tensorboard=tmp_path / "file")


def test_without_tensorboardx(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    trainer, data = new_trainer(backend)
    with pytest.raises(BackendError, match=r'pip install "bertnli\[tensorboard\]"'):
        fit(trainer, data, tensorboard="tb")


def test_of_several_processes_the_first_writes(backend: Backend, tmp_path: Path) -> None:
    several = {
        "torch": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        "mxnet": ["-m", "bertnli", "launch", "--workers", "2", "--"],
    }[backend.name]
    sizes = ("--num-hiddens", "16", "--ffn-num-hiddens", "24", "--num-heads", "2")
    command = ["train", "--train", "sample", "--backend", backend.name, "--devices", "cpu", *sizes]
    command += ["--num-blks", "1", "--epochs", "1", "--batch-size", "64", "--lr", "1e-3"]
    command += ["--output", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "tb")]
    if backend.name == "torch":
        command = ["-m", "bertnli", *command]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = processes.run([sys.executable, *several, *command], env=env)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "tb").iterdir())) == 1
    found = events(tmp_path / "tb")
    assert len(found) == STEPS + len(EPOCH_TAGS)
    (line,) = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    values = {tag: value for tag, _, value, _ in found}
    assert values["dev/accuracy"] == np.float32(line["dev_accuracy"])


def test_the_command_s_option(backend: Backend, tmp_path: Path) -> None:
    command = ["train", "--train", "sample", "--backend", backend.name, "--devices", "cpu"]
    command += ["--num-hiddens", "16", "--ffn-num-hiddens", "24", "--num-heads", "2", "--quiet"]
    command += ["--num-blks", "1", "--epochs", "1", "--batch-size", "256", "--lr", "1e-3"]
    command += ["--output", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "tb")]
    assert main(command) == 0
    assert {tag for tag, *_ in events(tmp_path / "tb")} == {STEP_LOSS, *EPOCH_TAGS}


class Recorder(Observer):
    """Writes down what it is told."""

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
    step, calls = trainer.train_step, 0

    def signalled(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == STEPS + 3:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    trainer.train_step = signalled
    seen = Recorder()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, output=tmp_path, observers=[seen])
    first = [f"step {i + 1}" for i in range(STEPS)]
    second = [f"step {STEPS + i + 1}" for i in range(3)]
    dev = ["dev 256", "dev 512", "dev 768", "dev 780"]
    whole = ["start 0", "epoch 1 0", *first, f"trained {STEPS}", *dev, "scored 1"]
    assert seen.calls == [*whole, "epoch 2 0", *second, "trained 3", "end"]
    again, data = new_trainer(backend)
    seen = Recorder()
    fit(again, data, output=tmp_path, resume=True, observers=[seen])
    rest = [f"step {STEPS + i + 1}" for i in range(3, STEPS)]
    expected = [f"start {STEPS + 3}", "epoch 2 3", *rest, f"trained {STEPS}", *dev, "scored 2"]
    assert seen.calls == [*expected, "end"]


def test_an_observer_s_error_ends_the_run(backend: Backend) -> None:
    class Broken(Recorder):
        def on_step(self, state: Any) -> None:
            raise OSError("no space left")

    trainer, data = new_trainer(backend)
    seen = Broken()
    with pytest.raises(OSError, match="no space left"):
        fit(trainer, data, observers=[seen])
    assert seen.calls[-1] == "end"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, data = new_trainer(backend)
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        fit(trainer, data, progress=True)
        said = stream.getvalue()
        if stream.isatty():
            assert "epoch 1/2:" in said and "780/780" in said and ", acc 0." in said
            assert f"epoch {EPOCHS}/{EPOCHS}: 100%" in said
        else:
            assert "\r" not in said  # a log gets a line where an epoch takes long


class Clock:
    """Seconds, of which each step takes some."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_log_gets_a_line_now_and_then(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """On steps of 12 seconds, 13 in an epoch: every third has a line; the dev set has one too."""
    trainer, data = new_trainer(backend)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress_observer(EPOCHS, len(data)), LogProgress)
    fit(trainer, data, observers=[LogProgress(EPOCHS, len(data), Clock(12.0))])
    lines = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    number = r"\d\.\d{3}"
    for line, step in zip(lines[:4], (3, 6, 9, 12), strict=True):
        left = (2 * 780 - step * 64) * step * 12 / (step * 64)
        expected = (
            rf"epoch 1/2: {step * 64} of 780 pairs, step {step}, loss {number}, acc {number}, "
            rf"5\.3 pairs/s, about {duration(left)} left"
        )
        assert re.fullmatch(expected, line), line
    assert lines[4] == "epoch 1/2, dev set: 768 pairs, 21.3 pairs/s"
    assert [line[:9] for line in lines] == ["epoch 1/2"] * 5 + ["epoch 2/2"] * 5
    assert lines[-2].startswith("epoch 2/2: 768 of 780 pairs, step 25, ")


def test_a_run_that_goes_on_is_as_fast_in_a_log_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before the stop is not counted in pairs/s; a loader's length is unknown."""
    from bertnli.training.state import EpochProgress, TrainingState

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    state = TrainingState({}, progress=EpochProgress(num_pairs=600))
    shown = LogProgress(1, None, Clock(60.0))
    shown.on_epoch_start(state)
    state.progress.num_pairs += 120
    shown.on_step(state)
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert said == "epoch 1/1: 720 pairs, step 0, loss 0.000, acc 0.000, 2.0 pairs/s\n"


def test_quiet_prints_no_line(
    backend: Backend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bertnli._util.progress.EVERY", 0.0)
    command = ["train", "--train", "sample", "--backend", backend.name, "--devices", "cpu"]
    command += ["--num-hiddens", "16", "--ffn-num-hiddens", "24", "--num-heads", "2"]
    command += ["--num-blks", "1", "--epochs", "1", "--batch-size", "256", "--lr", "1e-3"]
    for option, lines in ((["--quiet"], 0), (["--overwrite"], 5)):  # of four steps and the dev set
        assert main([*command, "--output", str(tmp_path / "run"), *option]) == 0
        assert len(re.findall("(?m)^epoch 1/1", capsys.readouterr().err)) == lines


NOTEBOOK = """
import bertnli, sys
sys.path[:0] = {paths!r}
import test_observers
trainer, data = test_observers.new_trainer(bertnli.get_backend({backend!r}))
history = test_observers.fit(trainer, data, progress=True)
print(history.epochs[-1])
"""


def test_the_curve_of_a_notebook(backend: Backend) -> None:
    """In a real kernel: one picture, drawn anew in its place, and no bar's lines."""
    import nbclient
    import nbformat

    paths = [str(folder) for folder in Path(__file__).parents[:2]]
    code = NOTEBOOK.format(paths=paths, backend=backend.name)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    limits = {"timeout": processes.LIMIT, "startup_timeout": processes.LIMIT}
    nbclient.NotebookClient(notebook, **limits).execute()
    outputs = notebook.cells[0].outputs
    pictures = [one for one in outputs if one.output_type == "display_data"]
    printed = "".join(one.text for one in outputs if one.output_type == "stream")
    assert len(pictures) == 1
    assert base64.b64decode(pictures[0].data["image/png"]).startswith(b"\x89PNG")
    assert pictures[0].data["text/plain"] == printed.strip()
    assert f"epoch {EPOCHS}:" in printed


class Shown:
    """A stand-in for IPython: remembers what is displayed, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: list[dict[str, str]] = []
        self.now = 0.0
        monkeypatch.setattr("bertnli.training.observers.shown.time", self)
        module: Any = type(sys)("IPython")
        module.version_info = (9, 0)  # which matplotlib asks for
        module.display = type(sys)("IPython.display")
        module.display.display = self.display
        module.get_ipython = lambda: type("Shell", (), {"kernel": object()})
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", module.display)

    def perf_counter(self) -> float:
        return self.now

    def display(self, content: dict[str, str], raw: bool, display_id: bool) -> Any:
        assert raw and display_id and not self.contents
        self.contents.append(content)
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        assert raw
        self.contents.append(content)


def test_a_curve_is_drawn_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    from bertnli.training.state import EpochProgress, TrainingState

    shown = Shown(monkeypatch)
    curve = progress_observer(3, 1000)
    assert isinstance(curve, LiveCurve)
    state = TrainingState({}, progress=EpochProgress())
    curve.on_start(state)
    curve.on_epoch_start(state)
    for step in range(1, 81):  # ten seconds of steps
        shown.now += 0.125
        state.history.step_losses.append(1 / step)
        state.progress.num_pairs += 10
        curve.on_step(state)
    assert len(shown.contents) - 1 == 10 / EVERY
    assert "epoch 1/3: 800 of 1000 pairs, loss 0.000" in shown.contents[-1]["text/plain"]
    assert "80.0 pairs/s" in shown.contents[-1]["text/plain"]


def test_a_notebook_without_matplotlib_gets_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from bertnli.training.state import TrainingState

    shown = Shown(monkeypatch)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    LiveCurve(1, None).on_start(TrainingState({}))
    assert shown.contents == [{"text/plain": "training begins"}]


def test_outside_of_a_notebook_it_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(progress_observer(1, None), ProgressBar)
    assert "IPython" not in sys.modules
