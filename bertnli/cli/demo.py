"""The command that shows both backends at work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertnli._util.options import option
from bertnli._util.outputs import check_output_folder
from bertnli.backends import available_backends, get_backend
from bertnli.cli.options import BUNDLED_MODEL, at_least
from bertnli.cli.parser import Command
from bertnli.data.corpus import Corpus
from bertnli.data.read import read
from bertnli.errors import BackendError
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

    output: str = option("folder of the runs", default="runs/demo", metavar="DIR")
    epochs: int = option("passes over the training set", default=6, type=at_least(1))

    def run(self) -> None:
        names = available_backends()
        if not names:
            raise BackendError('no framework is installed: pip install "bertnli[torch,mxnet]"')
        check_output_folder(self.output, "output")
        train, dev = read("sample", "train"), read("sample", "dev")
        print(f"{len(train.labels)} training pairs, {len(dev.labels)} dev pairs")
        output = Path(self.output)
        histories, logits = {}, {}
        for name in names:
            print(f"\n{name}")
            nli = get_backend(name)
            bert, vocab = nli.load_pretrained_model(BUNDLED_MODEL, dropout=0.0)
            net = nli.BERTClassifier(bert)
            train_set, dev_set = (
                nli.SNLIBERTDataset(corpus, 64, vocab, verbose=False) for corpus in (train, dev)
            )
            histories[name] = nli.Trainer(net, lr=5e-4, schedule="linear", warmup=0.1).fit(
                train_set,
                dev_set,
                self.epochs,
                batch_size=32,
                output=output / name,
                overwrite=True,
                progress=False,
                on_epoch=lambda record: print(record, flush=True),
            )
            logits[name] = net.logits(dev_set.batch(np.arange(len(dev_set))))
        if len(names) > 1:
            _compare(names, histories, logits, dev)
        try:
            plot_curves(histories).savefig(output / "curves.png")
            print(f"\ncurves of all runs: {output / 'curves.png'}")
        except BackendError as error:
            print(f"\nno curves.png: {error}")
        print(
            f"the classifiers in {output} show that both backends learn the same; they know "
            "little, having seen few pairs"
        )
        predict = f'bertnli predict {BUNDLED_MODEL} --pair "PREMISE" "HYPOTHESIS"'
        print(f"try {BUNDLED_MODEL}, trained on SNLI: {predict}")


def _compare(names: list[str], histories: dict, logits: dict, dev: Corpus) -> None:
    first, second = names
    losses = [np.array(histories[name].step_losses) for name in names]
    differences = np.abs(losses[0] - losses[1])
    scores = " and ".join(f"{histories[name].epochs[-1].dev_accuracy:.3f}" for name in names)
    predicted = [logits[name].argmax(1) for name in names]
    rows = {
        "dev accuracy": scores,
        "same prediction on dev": f"{(predicted[0] == predicted[1]).mean():.1%}",
        f"a step's loss, first {EARLY} steps": f"{differences[:EARLY].max():.0e} apart at most",
        f"a step's loss, all {len(differences)} steps": f"{differences.max():.0e} apart at most",
    }
    print(f"\n{first} against {second}: same start, same data, no dropout")
    for what, value in rows.items():
        print(f"  {what:<34} {value}")
    print("  (each sums in its own order; a fast rate on few pairs makes that rounding grow)")
    print(f"\nthe first of the dev set, {first} and {second}:")
    for i, (premise, hypothesis, label) in enumerate(list(zip(*dev, strict=True))[:PAIRS]):
        answers = " and ".join(dev.label_names[ids[i]] for ids in predicted)
        print(f"  {premise} / {hypothesis}\n      {answers}; right is {dev.label_names[label]}")
