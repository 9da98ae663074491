"""Training a classifier of sentence pairs, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from bertnli.api.runs import MIN_FREQ, Run, Setup
from bertnli.api.sets import describe, encoding_of, read_ids
from bertnli.backends.interface import Backend
from bertnli.bert.parameters import classifier_shapes
from bertnli.data.dataset import build_vocab
from bertnli.data.read import train_and_dev
from bertnli.data.sources import own_dev
from bertnli.errors import ConfigError
from bertnli.hub.catalogue import CLASSIFIER, PRETRAINED
from bertnli.nets.classifier import Classifier


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

    Examples:
        >>> run = bertnli.train("sample", pretrained="bert.mini", num_epochs=1, progress=False)
        >>> run.net.predict([("A man is asleep.", "A man is awake.")])[0].label
        'contradiction'
    """
    setup = Setup(backend, devices, output, progress, recipe, rank_timeout, options)
    reading, bert = setup.reading, None
    if pretrained is not None:
        if min_freq is not None or model is not None:
            raise ConfigError(
                "--min-freq and --model are for training from scratch; a pretrained model brings "
                "its vocabulary and sizes with it"
            )
        bert = setup.pretrained(pretrained, dropout, kind=PRETRAINED if new_head else CLASSIFIER)
    elif new_head:
        raise ConfigError(
            "new_head (--new-head) is for pretrained (--pretrained); from scratch the head is "
            "new anyway"
        )

    def classifier(labels: Sequence[str]) -> Classifier:
        seed = setup.config.seed
        net: Classifier = setup.backend.BERTClassifier(bert, labels, seed=seed, new_head=new_head)
        return net

    if bert is None or isinstance(dev, float):
        corpora = train_and_dev(train, dev, seed=setup.config.seed, **reading)
        if bert is None:
            vocab = build_vocab(corpora[0], MIN_FREQ if min_freq is None else min_freq)
            bert = setup.from_scratch(model, vocab, dropout)
        net = classifier(corpora[0].label_names)
        train_set = net.encode(corpora[0], max_len, truncation)
        dev_set = None if corpora[1] is None else net.encode(corpora[1], max_len, truncation)
    else:  # from the source to ids at once
        encoding = encoding_of(bert.config, bert.head and bert.head.encoding, max_len, truncation)
        train_set = read_ids(train, None, bert.vocab, encoding, default="train", **reading)
        net = classifier(train_set.label_names)
        own = encoding_of(net.config, net.encoding, max_len, truncation)
        if own != encoding:  # the classes are not those of the checkpoint, so its way is not taken
            train_set = read_ids(train, None, bert.vocab, own, default="train", **reading)
        dev = own_dev(train) if dev is None else dev
        reading = {"labels": train_set.label_names, **reading, "probabilities": None}
        dev_set = None if dev is None else read_ids(dev, None, bert.vocab, own, **reading)
    setup.print(f"train: {describe(train_set)}")
    if dev_set is not None:
        setup.print(f"dev: {describe(dev_set)}")
    setup.print_model(pretrained, net.config, classifier_shapes(net.config, len(net.labels)))
    setup.print(f"output layer: {net.output_origin}")
    setup.print_vocab(train_set.token_ids, net.required_vocab(), "training set")
    setup.print(
        f"pairs: {int(train_set.is_cut.sum())} have more than {train_set.max_len} tokens "
        f"(--max-len) and were cut; {-(-len(train_set) // setup.config.batch_size)} steps an epoch"
    )
    return setup.fit(net, train_set, dev_set, pretrained is not None)
