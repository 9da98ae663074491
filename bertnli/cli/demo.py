"""Fine-tune the same small BERT on both backends and compare the two runs, in a minute or two.

example:
  bertnli demo --output runs/demo
      starts from bert.mini, pretrained, on the corpus that comes with bertnli, and writes both
      classifiers and the curves of both in one picture
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bertnli._util.outputs import check_output_folder
from bertnli.backends import available_backends, get_backend
from bertnli.cli.options import BUNDLED_MODEL, positive
from bertnli.data.corpus import Corpus
from bertnli.data.read import read
from bertnli.errors import BackendError
from bertnli.plots import plot_curves

#: Pairs of the dev set to show, and steps before rounding has grown.
SHOWN, EARLY = 3, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--output", default="runs/demo", metavar="DIR", help="folder of the runs")
    parser.add_argument("--epochs", type=positive, default=6, metavar="N", help="(default: 6)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    names = available_backends()
    if not names:
        raise BackendError('no framework is installed: pip install "bertnli[torch,mxnet]"')
    check_output_folder(arguments.output, "output")
    train, dev = read("sample", "train"), read("sample", "dev")
    print(f"{len(train.labels)} training pairs, {len(dev.labels)} dev pairs")
    output = Path(arguments.output)
    histories, logits = {}, {}
    for name in names:
        print(f"\n{name}")
        nli = get_backend(name)
        bert, vocab = nli.load_pretrained_model(BUNDLED_MODEL, dropout=0.0)
        net = nli.BERTClassifier(bert)
        trainer = nli.Trainer(net, lr=5e-4, schedule="linear", warmup=0.1)
        train_set, dev_set = (
            nli.SNLIBERTDataset(corpus, 64, vocab, verbose=False) for corpus in (train, dev)
        )
        histories[name] = trainer.fit(
            train_set,
            dev_set,
            arguments.epochs,
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
        f"the classifiers in {output} show that both backends learn the same; they know little, "
        "having seen few pairs"
    )
    predict = f'bertnli predict {BUNDLED_MODEL} --pair "PREMISE" "HYPOTHESIS"'
    print(f"try {BUNDLED_MODEL}, trained on SNLI: {predict}")
    return 0


def _compare(names: list[str], histories: dict, logits: dict, dev: Corpus) -> None:
    first, second = names
    steps = zip(histories[first].step_losses, histories[second].step_losses, strict=True)
    differences = [abs(a - b) for a, b in steps]
    scores = [histories[name].epochs[-1].dev_accuracy for name in names]
    predicted = {name: logits[name].argmax(1) for name in names}
    same = (predicted[first] == predicted[second]).mean()
    print(f"\n{first} against {second}: same start, same data, no dropout")
    print(f"  dev accuracy                       {scores[0]:.3f} and {scores[1]:.3f}")
    print(f"  same prediction on dev             {same:.1%}")
    print(
        f"  a step's loss, first {EARLY} steps       {max(differences[:EARLY]):.0e} apart at most"
    )
    print(
        f"  a step's loss, all {len(differences)} steps        {max(differences):.0e} apart at most"
    )
    print("  (each sums in its own order; a fast rate on few pairs makes that rounding grow)")
    print(f"\nthe first of the dev set, {first} and {second}:")
    for i, (premise, hypothesis, label) in enumerate(list(zip(*dev, strict=True))[:SHOWN]):
        answers = " and ".join(dev.label_names[predicted[name][i]] for name in names)
        print(f"  {premise} / {hypothesis}\n      {answers}; right is {dev.label_names[label]}")
