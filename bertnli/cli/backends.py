"""The commands that examine and compare the backends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.options import argument, at_least, group, option
from bertnli._util.outputs import check_output_folder
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
from bertnli.plots import plot_curves

#: Pairs of the dev set to print, and steps before rounding has grown.
PAIRS, EARLY = 3, 20


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Fine-tune the same small BERT on both backends and compare the two runs, in a minute or two.

    example:
      bertnli demo --output runs/demo
          starts from bert.mini, pretrained, on the corpus that comes with bertnli, and writes both
          classifiers and the curves of both in one picture
    """

    output: options.Folder = option("folder of the runs", default="runs/demo")
    epochs: options.Count = option("passes over the training set", default=6)

    def run(self) -> None:
        names = available_backends()
        if not names:
            raise BackendError('no framework is installed: pip install "bertnli[torch,mxnet]"')
        check_output_folder(self.output, "output")
        dev, output = read("sample", "dev"), Path(self.output)
        print(f"{len(read('sample', 'train').labels)} training pairs, {len(dev.labels)} dev pairs")
        runs, answers = {}, {}
        for name in names:
            print(f"\n{name}")
            runs[name] = train(
                "sample",
                backend=name,
                output=output / name,
                overwrite=True,
                pretrained=options.BUNDLED_MODEL,
                new_head=True,
                dropout=0.0,
                max_len=64,
                num_epochs=self.epochs,
                batch_size=32,
                lr=5e-4,
                schedule="linear",
                warmup=0.1,
                progress=False,
                on_epoch=partial(print, flush=True),
            )
            predictions = runs[name].net.predict([*zip(dev.premises, dev.hypotheses, strict=True)])
            answers[name] = [prediction.label for prediction in predictions]
        histories = {name: run.history for name, run in runs.items()}
        if len(names) > 1:
            _compare(histories, answers, dev)
        try:
            plot_curves(histories).savefig(output / "curves.png")
            print(f"\ncurves of all runs: {output / 'curves.png'}")
        except BackendError as error:
            print(f"\nno curves.png: {error}")
        print(
            f"the classifiers in {output} show that both backends learn the same; they know "
            "little, having seen few pairs"
        )
        predict = f'bertnli predict {options.BUNDLED_MODEL} --pair "PREMISE" "HYPOTHESIS"'
        print(f"try {options.BUNDLED_MODEL}, trained on SNLI: {predict}")


def _compare(histories: dict[str, Any], answers: dict[str, list[str]], dev: Corpus) -> None:
    first, second = histories.values()
    differences = np.abs(np.subtract(first.step_losses, second.step_losses))
    same = np.mean([a == b for a, b in zip(*answers.values(), strict=True)])
    scores = [f"{history.epochs[-1].dev_accuracy:.3f}" for history in (first, second)]
    rows = {
        "dev accuracy": " and ".join(scores),
        "same prediction on dev": f"{same:.1%}",
        f"a step's loss, first {EARLY} steps": f"{differences[:EARLY].max():.0e} apart at most",
        f"a step's loss, all {len(differences)} steps": f"{differences.max():.0e} apart at most",
    }
    print(f"\n{' against '.join(histories)}: same start, same data, no dropout")
    for what, value in rows.items():
        print(f"  {what:<34} {value}")
    print("  (each sums in its own order; a fast rate on few pairs makes that rounding grow)")
    print(f"\nthe first of the dev set, {' and '.join(histories)}:")
    for i, (premise, hypothesis, label) in enumerate(list(zip(*dev, strict=True))[:PAIRS]):
        both = " and ".join(labels[i] for labels in answers.values())
        print(f"  {premise} / {hypothesis}\n      {both}; right is {dev.label_names[label]}")


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Show what is installed here, try each backend, and say what to do about what is wrong.

    Each backend predicts one pair with the model that comes with bertnli, in a process of its own,
    and is compared with the same model in float64 NumPy. The exit status is 0 if at least one
    backend works, and 1 if none does. Put the output into a report of a problem; the home folder is
    ~ in it.

    examples:
      bertnli doctor
      bertnli doctor --json > doctor.json
    """

    json: bool = options.json_option()

    def run(self) -> int:
        report = diagnose()
        advice = [{"kind": kind, "text": text} for kind, text in advise(report)]
        if self.json:
            text = json.dumps({**report, "advice": advice}, indent=2, ensure_ascii=False)
        else:
            sections = {
                f"bertnli {report['bertnli']}": {
                    **report["machine"],
                    "packages": report["packages"],
                },
                **report["backends"],
                "differences between the probabilities": report["differences"],
                'extras; pip install "bertnli[NAME]" installs one': report["extras"],
                "downloads": report["downloads"],
            }
            blocks = ["\n".join(_section(title, rows)) for title, rows in sections.items() if rows]
            lines = [f"{item['kind']}: {item['text']}" for item in advice] or ["nothing is wrong"]
            text = "\n\n".join([*blocks, "\n".join(lines)])
        home = str(Path.home())  # has the user's name
        print(text.replace(f"{home}/", "~/") if len(home) > 1 else text)
        return 0 if report["works"] else 1


def _section(title: str, rows: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, rows))
    yield title
    for key, value in rows.items():
        yield f"  {key:<{width}}  {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value or "-")


@dataclass(frozen=True, kw_only=True)
class Parity(Command):
    """Check that both backends compute the same from a checkpoint of any format.

    Layer by layer, the activations and gradients of a batch of the sample corpus, and the losses of
    some steps of training, each compared between the backends and with the same model in float64
    NumPy, the referee, which shows which of them is off. Exits with 1 if something is beyond the
    tolerances.

    examples:
      bertnli parity runs/mine
      bertnli parity bert.small.zip --num-heads 4 --steps 20 --plot parity.png
      bertnli parity some-bert --labels contradiction,entailment,neutral --json
    """

    path: str = argument("a checkpoint of any format", metavar="PATH")
    unnamed: options.Unnamed = group(options.Unnamed)
    steps: int = option("of training", default=5, type=at_least(0))
    batch_size: options.Count = option("pairs computed at a time", default=8)
    lr: float = option("learning rate of the steps", default=1e-4)
    plot: options.File | None = option("draw the losses into a PNG file")
    json: bool = options.json_option()

    def run(self) -> int:
        if self.plot is not None and self.plot.suffix.lower() != ".png":
            raise ConfigError(f"--plot writes PNG files, and {self.plot} is not called one")
        options.check_plot(self.plot)
        checkpoint = load_checkpoint(self.path, self.unnamed.labels, self.unnamed.num_heads)
        backends = [get_backend(name) for name in available_backends()]
        report = parity_report(
            checkpoint, backends, steps=self.steps, batch_size=self.batch_size, lr=self.lr
        )
        if self.json:
            # JSON has no NaN, which a broken model may well give.
            values = {**report.to_dict(), "given": list(checkpoint.given)}
            plain = json.loads(json.dumps(values), parse_constant=lambda _: None)
            print(json.dumps(plain, indent=2))
        else:
            print(f"{report}{checkpoint.reservation}", flush=True)
        if self.plot is not None:
            report.plot(self.plot)
        return 0 if report.agrees else 1
