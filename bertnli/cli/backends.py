"""The commands that examine and compare backends and runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.options import argument, at_least, group, option
from bertnli._util.outputs import check_output_folder
from bertnli.api.loading import backend_of
from bertnli.api.train import train
from bertnli.backends import available_backends, get_backend
from bertnli.cli import options
from bertnli.cli.parser import Command
from bertnli.data.corpus import Corpus
from bertnli.data.read import read
from bertnli.doctor.diagnosis import advise, diagnose
from bertnli.errors import BackendError, ConfigError
from bertnli.formats.load import load_checkpoint
from bertnli.parity.report import parity_report
from bertnli.plots import FORMATS, check_figure_path, plot_curves
from bertnli.training.history import read_history

#: Pairs of the dev set that are printed, and first steps, in which rounding errors are small.
PAIRS, EARLY = 3, 20


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Fine-tune the same small BERT on both backends and compare the two runs, in a minute or two.

    Both start from bert.mini, on the corpus that comes with bertnli. The output folder gets the two
    classifiers and a picture of both runs' curves.

    example:
      bertnli demo --output runs/demo
    """

    output: options.Folder = option("folder of the runs", default="runs/demo")
    epochs: options.Count = option("passes over the training set", default=6)

    def run(self) -> None:
        names = available_backends() or [backend_of(None).name]  # raises if none is installed
        check_output_folder(self.output, "output")
        dev, output, model = read("sample", "dev"), Path(self.output), options.BUNDLED_MODEL
        print(f"{len(read('sample', 'train').labels)} training pairs, {len(dev.labels)} dev pairs")
        how: dict[str, Any] = {"pretrained": model, "new_head": True, "dropout": 0.0, "max_len": 64}
        how |= {"batch_size": 32, "num_epochs": self.epochs, "lr": 5e-4}
        how |= {"schedule": "linear", "warmup": 0.1, "overwrite": True, "progress": False}
        histories, answers = {}, {}
        for name in names:
            print(f"\n{name}")
            how |= {"backend": name, "output": output / name}
            run = train("sample", **how, on_epoch=partial(print, flush=True))
            predictions = run.net.predict([*zip(dev.premises, dev.hypotheses, strict=True)])
            histories[name] = run.history
            answers[name] = [prediction.label for prediction in predictions]
        if len(names) > 1:
            _compare(histories, answers, dev)
        try:
            plot_curves(histories).savefig(output / "curves.png")
            print(f"\ncurves of all runs: {output / 'curves.png'}")
        except BackendError as error:
            print(f"\nno curves.png: {error}")
        print(f"the classifiers in {output} have seen few pairs; {model} was trained on SNLI: try")
        print(f'bertnli predict {model} --pair "PREMISE" "HYPOTHESIS"')


def _compare(histories: dict[str, Any], answers: dict[str, list[str]], dev: Corpus) -> None:
    """Print how the runs of two backends and their predictions for the dev set differ."""
    names = " and ".join(histories)
    losses = np.abs(np.subtract(*(history.step_losses for history in histories.values())))
    scores = [f"{history.epochs[-1].dev_accuracy:.3f}" for history in histories.values()]
    same = np.mean([a == b for a, b in zip(*answers.values(), strict=True)])
    print(f"\n{names}: same start, same data, no dropout")
    print(f"  dev accuracy: {' and '.join(scores)}; same prediction for {same:.1%} of the pairs")
    largest = f"{losses[:EARLY].max():.0e} in the first {EARLY} steps, {losses.max():.0e} in all"
    print(f"  largest difference of a step's loss: {largest}, for rounding errors grow")
    print(f"\nthe first pairs of the dev set, {names}:")
    for i, (premise, hypothesis, label) in enumerate(list(zip(*dev, strict=True))[:PAIRS]):
        both = " and ".join(labels[i] for labels in answers.values())
        print(f"  {premise} / {hypothesis}\n      {both}; right is {dev.label_names[label]}")


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Show what is installed, try each backend, and say how to solve problems.

    Each backend predicts one pair in a separate process, and is compared with the same model in
    float64 NumPy. The exit status is 0 if at least one backend works, else 1. Put the output into a
    report of a problem; it shows the home folder as ~.

    example:
      bertnli doctor --json > doctor.json
    """

    json: bool = options.json_option()

    def run(self) -> int:
        report = diagnose()
        advice = [{"kind": kind, "text": text} for kind, text in advise(report)]
        if self.json:
            text = json.dumps({**report, "advice": advice}, indent=2, ensure_ascii=False)
        else:
            machine = {**report["machine"], "packages": report["packages"]}
            sections = {
                f"bertnli {report['bertnli']}": machine,
                **report["backends"],
                "differences between the probabilities": report["differences"],
                'extras; pip install "bertnli[NAME]" installs one': report["extras"],
                "downloads": report["downloads"],
            }
            blocks = [_section(title, rows) for title, rows in sections.items() if rows]
            lines = [f"{item['kind']}: {item['text']}" for item in advice] or ["nothing is wrong"]
            text = "\n\n".join([*blocks, "\n".join(lines)])
        home = str(Path.home())  # contains the user's name
        print(text.replace(f"{home}/", "~/") if len(home) > 1 else text)
        return 0 if report["works"] else 1


def _section(title: str, rows: Mapping[str, Any]) -> str:
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {key:<{width}}  {_text(rows[key])}" for key in rows)])


def _text(value: Any) -> str:
    """Format any JSON value in one line; an empty value becomes ``-``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value or "-")


@dataclass(frozen=True, kw_only=True)
class Parity(Command):
    """Check that both backends compute the same from a checkpoint of any format.

    The activations and gradients of each layer for a batch of the sample corpus, and the losses of
    some training steps, are compared with each other and with the same model in float64 NumPy, the
    referee. The exit status is 1 if a difference is larger than its tolerance.

    examples:
      bertnli parity some-bert --labels contradiction,entailment,neutral --json
    """

    path: options.AnyPath = argument("a checkpoint of any format")
    unnamed: options.Unnamed = group(options.Unnamed)
    steps: int = option("number of training steps", default=5, type=at_least(0))
    batch_size: options.Count = options.batch_size_option(default=8)
    lr: float = option("learning rate", default=1e-4)
    plot: options.File | None = option("draw the losses into a PNG file")
    json: bool = options.json_option()

    def run(self) -> int:
        options.check_plot(self.plot)
        if self.plot is not None and self.plot.suffix.lower() != ".png":
            raise ConfigError(f"--plot writes PNG files, and {self.plot} is not called one")
        checkpoint = load_checkpoint(self.path, self.unnamed.labels, self.unnamed.num_heads)
        backends = [get_backend(name) for name in available_backends()]
        how: Any = {"steps": self.steps, "batch_size": self.batch_size, "lr": self.lr}
        report = parity_report(checkpoint, backends, **how)
        if self.json:
            # JSON has no NaN, which a broken model may give: it becomes null.
            values = {**report.to_dict(), "given": list(checkpoint.given)}
            plain = json.loads(json.dumps(values), parse_constant=lambda _: None)
            print(json.dumps(plain, indent=2))
        else:
            print(f"{report}{checkpoint.reservation}", flush=True)
        if self.plot is not None:
            report.plot(self.plot)
        return 0 if report.agrees else 1


@dataclass(frozen=True, kw_only=True)
class Curve(Command):
    """Draw the training curves of runs, of either backend, into one picture.

    For one run it is the book's figure: train loss, train accuracy and dev accuracy. For several,
    which may be in progress, loss and accuracy are side by side, with a colour for each run.

    examples:
      bertnli curve runs/seed0 runs/seed1 runs/seed2 -o seeds.svg --names "seed 0,seed 1,seed 2"
    """

    runs: list[str] = argument("folders of runs", metavar="RUN", nargs="+")
    output: options.File = option(
        f"the file: {', '.join(FORMATS)}", "-o", "--output", default=Path("curve.png")
    )
    names: options.Names | None = option("names of the runs (default: their paths)")

    def run(self) -> None:
        check_figure_path(self.output, "--output")
        names = self.names or self.runs
        if len(names) != len(self.runs):
            raise ConfigError(f"--names has {len(names)} names for {len(self.runs)} runs")
        if len(set(names)) < len(names):
            raise ConfigError("a run is given twice, or two have one name; name each once")
        histories = {name: read_history(path) for name, path in zip(names, self.runs, strict=True)}
        for name, history in histories.items():
            if not history.epochs:
                raise ConfigError(f"{name} has no finished epoch yet; there is nothing to draw")
        if len(histories) == 1 and self.names is None:
            histories = {"": next(iter(histories.values()))}
        plot_curves(histories).savefig(self.output)
        print(f"wrote {self.output}")
