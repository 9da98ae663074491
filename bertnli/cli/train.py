"""Train a classifier of sentence pairs, on a pretrained BERT or on a small one from scratch.

The output folder gets best/ (the epoch with the highest dev accuracy), last/, metrics.jsonl,
curve.png, and state/, from which --resume goes on, whatever ended the run. The first Ctrl-C or
SIGTERM ends it after the step under way and saves last/ and state/; after SIGTERM the exit status
is 0, so that a cluster may move the run.

examples:
  bertnli train --data sample --output runs/sample --num-hiddens 128 --ffn-num-hiddens 256 \\
      --min-freq 2 --batch-size 32 --lr 1e-3 --epochs 10
      from scratch, on the small corpus that comes with bertnli: nothing is downloaded
  bertnli train --data SNLI --pretrained bert.small --output runs/small
      the book's chapter
  bertnli train --train train.csv --dev dev.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=contradiction,2=neutral \\
      --batch-size 32 --lr 1e-3 --output runs/mine
      from scratch, on tables of your own; small steps, for few pairs
  bertnli train --data SNLI --pretrained bert.base --recipe best --output runs/best
      with warm-up, decays and clipping, in place of the chapter's plain Adam
  bertnli train --data SNLI --pretrained bert.base --output runs/base --resume --save-every 5m
      the same line again, as often as it was stopped
"""

from __future__ import annotations

import argparse
from typing import Any

from bertnli.backends.interface import Backend, Classifier
from bertnli.cli import corpora, options, recipes, runs
from bertnli.config import PRESETS
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import ConfigError
from bertnli.hub import CLASSIFIER, PRETRAINED
from bertnli.labels import LABELS
from bertnli.parameters import classifier_shapes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    runs.add_run_options(parser)
    _add_data_options(parser)
    _add_model_options(parser)
    recipes.add_training_options(parser)
    options.add_backend_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("data").add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data", metavar="CORPUS", help=f"{corpora.DATA_HELP}; its train and dev splits"
    )
    source.add_argument("--train", metavar="FILE", help="a TSV, CSV or JSONL file of your own")
    table = parser.add_argument_group("data of your own")
    table.add_argument("--dev", metavar="FILE", help="what the best epoch is chosen by")
    corpora.add_column_options(table)
    corpora.add_label_options(table)
    table.add_argument(
        "--soft-labels",
        nargs="?",
        const="probabilities",
        metavar="KEY",
        help="train on the probabilities that a teacher gave each class: an object in each line of "
        "--train, as `bertnli predict --json` writes them (key: probabilities); for those, give "
        "--premise-column premise --hypothesis-column hypothesis --label-column label, too",
    )
    table.add_argument(
        "--labels",
        type=options.names,
        metavar="NAMES",
        help=f"the classes, in the order of their ids (default: {','.join(LABELS)})",
    )
    corpora.add_skip_option(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "model", "from scratch by default, with a vocabulary of the training set"
    )
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--pretrained",
        metavar="MODEL",
        help="start from a name of the hub, a folder or zip with pretrained.params and "
        "vocab.json, a Hugging Face folder of a BERT, or a .params file of GluonNLP with its "
        "vocabulary beside it; sizes not given are taken from the file",
    )
    start.add_argument(
        "--model",
        choices=sorted(PRESETS),
        help=f"from scratch, with the sizes of this one (default: {runs.SCRATCH_MODEL})",
    )
    group.add_argument(
        "--new-head",
        action="store_true",
        help="begin with a new output layer, also where --pretrained is a classifier of the same "
        "classes, which is gone on with otherwise; of a model that comes with bertnli, begin with "
        "the pretrained one",
    )
    runs.add_size_options(group)
    runs.add_min_freq_option(group)


def run(args: argparse.Namespace) -> int:
    """Train, and say what was done."""
    config = recipes.training_config(args)
    backend = options.backend_of(args)
    devices = backend.as_devices(args.devices)
    args.quiet = args.quiet or not backend.find_workers(args.rank_timeout).is_first
    runs.check_folders(args, backend)
    net, train_set, dev_set = _make_net_and_sets(args, backend, devices)
    runs.say(args, f"train: {corpora.describe(train_set)}")
    if dev_set is not None:
        runs.say(args, f"dev: {corpora.describe(dev_set)}")
    runs.say(args, _describe_model(args, backend, devices, net, train_set, config.batch_size))
    return runs.fit(args, config, backend, devices, net, train_set, dev_set)


def _make_net_and_sets(
    args: argparse.Namespace, backend: Backend, devices: Any
) -> tuple[Classifier, PairDataset, PairDataset | None]:
    """Return the classifier to train, the training set, and the dev set if there is one."""
    given = (args.dev, args.labels, args.soft_labels)
    if args.data is not None and any(option is not None for option in given):
        raise ConfigError(
            "--dev, --labels and --soft-labels go with --train; --data names a corpus that has its "
            "own"
        )
    if args.data is not None and args.pretrained is not None:
        # The vocabulary is there before the corpus: from file to ids at once.
        net = _make_net(args, backend, devices, None)
        encoding = options.encoding_of(args, net.config, net.encoding)
        train_set, dev_set = (
            corpora.encode_split(args, split, encoding, net.required_vocab())
            for split in ("train", "dev")
        )
        return net, train_set, dev_set
    train, dev = _read(args)
    net = _make_net(args, backend, devices, train)
    encoding, vocab = options.encoding_of(args, net.config, net.encoding), net.required_vocab()
    train_set = corpora.encoded(train, encoding, vocab)
    return net, train_set, None if dev is None else corpora.encoded(dev, encoding, vocab)


def _read(args: argparse.Namespace) -> tuple[Corpus, Corpus | None]:
    """Return the training set, and the dev set if there is one."""
    if args.data is not None:
        return corpora.read_split(args, "train"), corpora.read_split(args, "dev")
    labels = args.labels or LABELS
    train = corpora.read_table(args, args.train, labels, probabilities=args.soft_labels)
    return train, None if args.dev is None else corpora.read_table(args, args.dev, labels)


def _make_net(
    args: argparse.Namespace, backend: Backend, devices: Any, train: Corpus | None
) -> Classifier:
    """Return the classifier to train, on a pretrained BERT or on one with start values.

    Args:
        train: the corpus, which a model from scratch takes its vocabulary of; else None will do.
    """
    sizes = runs.sizes_of(args)
    labels = LABELS if train is None else train.label_names
    if args.pretrained is None:
        if args.new_head:
            raise ConfigError("--new-head is for --pretrained; from scratch the head is new anyway")
        assert train is not None
        vocab = build_vocab(train, runs.min_freq_of(args))
        sizes = {**PRESETS[args.model or runs.SCRATCH_MODEL], **sizes}
        bert = backend.BERTModel(
            len(vocab), **sizes, dropout=args.dropout, seed=args.seed, vocab=vocab
        )
    elif args.min_freq is not None:
        raise ConfigError(
            "--min-freq is for training from scratch; a pretrained model brings its "
            "vocabulary with it"
        )
    else:
        bert, _ = backend.load_pretrained_model(
            args.pretrained,
            **sizes,
            dropout=args.dropout,
            devices=devices,
            kind=PRETRAINED if args.new_head else CLASSIFIER,
        )
    net: Classifier = backend.BERTClassifier(bert, labels, seed=args.seed, new_head=args.new_head)
    return net


def _describe_model(
    args: argparse.Namespace,
    backend: Backend,
    devices: Any,
    net: Classifier,
    data: PairDataset,
    batch_size: int,
) -> str:
    cut = int(data.is_cut.sum())
    steps = -(-len(data) // batch_size)
    return (
        f"{runs.describe_sizes(args, net.config, classifier_shapes(net.config, len(net.labels)))}\n"
        f"output layer: {net.output_origin}\n"
        f"{runs.describe_vocab(data.token_ids, net.required_vocab(), 'training set')}\n"
        f"pairs: {cut} have more than {data.max_len} tokens (--max-len) and were cut; {steps} "
        "steps an epoch\n"
        f"backend: {backend.name} on {', '.join(map(str, devices))}"
    )
