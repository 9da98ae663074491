"""Training a classifier of sentence pairs, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from bertnli.api.loading import backend_of
from bertnli.api.runs import MIN_FREQ, READING, Run, Setup, describe_vocab, encoding_of
from bertnli.api.sets import describe, read_ids
from bertnli.backends.interface import Backend
from bertnli.bert.parameters import classifier_shapes
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.read import train_and_dev
from bertnli.data.sources import own_dev
from bertnli.errors import ConfigError
from bertnli.hub.catalogue import CLASSIFIER, PRETRAINED
from bertnli.nets.classifier import Classifier
from bertnli.text.vocab import Vocab

_Sets = tuple[PairDataset, PairDataset | None]


def train(
    train: Any,
    dev: Any = None,
    *,
    output: str | Path | None = None,
    backend: str | Backend | None = None,
    devices: Any = None,
    pretrained: str | Path | None = None,
    model: str | None = None,
    new_head: bool = False,
    dropout: float = 0.1,
    min_freq: int | None = None,
    max_len: int | None = None,
    truncation: str | None = None,
    recipe: str = "book",
    rank_timeout: timedelta | None = None,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Train a classifier, on a pretrained BERT or on one from scratch.

    Args:
        train: a source of pairs, see `bertnli.read`; of one with several splits, train.
        dev: a source to choose the best epoch by (of several splits, dev); or a share of the
            training pairs to hold out, such as 0.1, by premise. None for the training source's own
            dev split, if it has one.
        output: folder of the run; None to write nothing.
        backend: ``"torch"`` or ``"mxnet"``; None for the first that is installed.
        devices: None for all GPUs, or else the CPU.
        pretrained: a model to start from: a name of the hub, or a path.
        model: from scratch: the sizes, one of `PRESETS`; None for bert.small's.
        new_head: begin with a new output layer, where ``pretrained`` is a classifier too.
        dropout: probability.
        min_freq: from scratch: words seen less often become ``<unk>``; None for 5.
        max_len, truncation: how pairs are cut; None for a classifier's own, else 128 tokens.
        recipe: ``"book"`` or ``"best"``; see `bertnli.bert.config.RECIPES`.
        rank_timeout: of several processes; see ``Trainer``.
        progress: print what is read, the model and each epoch.
        options: those of `bertnli.read`; sizes (``num_hiddens``, ``ffn_num_hiddens``,
            ``num_heads``, ``num_blks``, ``max_positions``); the settings of `TrainingConfig`;
            ``precision``, ``micro_batch_size`` and ``auto_batch`` of ``Trainer``;
            ``overwrite``, ``resume``, ``save_every``, ``keep``, ``tensorboard``, ``on_epoch`` and
            ``observers`` of its ``fit``.

    Returns:
        The net, the history and the folder.

    Raises:
        BERTNLIError: of a source, as `bertnli.read`; of settings, folders and training, as
            ``Trainer`` and its ``fit``.
        KeyboardInterrupt, SystemExit: after Ctrl-C and SIGTERM; see ``fit``.
    """
    found = backend_of(backend)
    setup = Setup(found, devices, output, progress, recipe, rank_timeout, options, READING)
    cut = max_len, truncation
    if pretrained is None:
        if new_head:
            raise ConfigError(
                "new_head (--new-head) is for pretrained (--pretrained); from scratch the head is "
                "new anyway"
            )
        corpora = train_and_dev(train, dev, seed=setup.config.seed, **setup.more)
        vocab = build_vocab(corpora[0], MIN_FREQ if min_freq is None else min_freq)
        bert = setup.from_scratch(model, vocab, dropout)
        net = _classifier(setup, bert, corpora[0].label_names, new_head)
        sets = _encoded(net, corpora, *cut)
    else:
        if min_freq is not None or model is not None:
            raise ConfigError(
                "--min-freq and --model are for training from scratch; a pretrained model brings "
                "its vocabulary and sizes with it"
            )
        kind = PRETRAINED if new_head else CLASSIFIER
        bert = setup.pretrained(pretrained, dropout, kind=kind)
        net, sets = _read_for(setup, bert, train, dev, new_head, *cut)
    train_set, dev_set = sets
    setup.say(f"train: {describe(train_set)}")
    if dev_set is not None:
        setup.say(f"dev: {describe(dev_set)}")
    shapes = classifier_shapes(net.config, len(net.labels))
    setup.say(setup.describe_model(pretrained, net.config, shapes))
    setup.say(f"output layer: {net.output_origin}")
    setup.say(describe_vocab(train_set.token_ids, net.required_vocab(), "training set"))
    setup.say(
        f"pairs: {int(train_set.is_cut.sum())} have more than {train_set.max_len} tokens "
        f"(--max-len) and were cut; {-(-len(train_set) // setup.config.batch_size)} steps an epoch"
    )
    setup.say(setup.where)
    return setup.fit(net, train_set, dev_set, pretrained is not None)


def _classifier(setup: Setup, bert: Any, labels: Sequence[str], new_head: bool) -> Classifier:
    net: Classifier = setup.backend.BERTClassifier(
        bert, labels, seed=setup.config.seed, new_head=new_head
    )
    return net


def _encoded(
    net: Classifier,
    corpora: tuple[Corpus, Corpus | None],
    max_len: int | None,
    truncation: str | None,
) -> _Sets:
    train, dev = corpora
    encoded = net.encode(train, max_len, truncation)
    return encoded, None if dev is None else net.encode(dev, max_len, truncation)


def _read_for(
    setup: Setup,
    bert: Any,
    train: Any,
    dev: Any,
    new_head: bool,
    max_len: int | None,
    truncation: str | None,
) -> tuple[Classifier, _Sets]:
    """Return the classifier on a pretrained BERT, and its sets: from the source to ids at once."""
    if isinstance(dev, float):
        corpora = train_and_dev(train, dev, seed=setup.config.seed, **setup.more)
        net = _classifier(setup, bert, corpora[0].label_names, new_head)
        return net, _encoded(net, corpora, max_len, truncation)
    vocab: Vocab = bert.vocab
    how = encoding_of(bert.config, bert.head and bert.head.encoding, max_len, truncation)

    options = setup.more
    train_set = read_ids(train, None, vocab, how, default="train", **options)
    net = _classifier(setup, bert, train_set.label_names, new_head)
    own = encoding_of(net.config, net.encoding, max_len, truncation)
    if own != how:  # the classes are not those of the checkpoint, whose way of cutting went
        train_set = read_ids(train, None, vocab, own, default="train", **options)
    dev = own_dev(train) if dev is None else dev
    if dev is None:
        return net, (train_set, None)
    options = {"labels": train_set.label_names, **options, "probabilities": None}
    return net, (train_set, read_ids(dev, None, vocab, own, **options))
