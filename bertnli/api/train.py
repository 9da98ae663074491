"""`bertnli.train` and `bertnli.pretrain`: read data, make a model, and train it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from bertnli.api.loading import describe, encoding_of, read_ids
from bertnli.api.runs import MIN_FREQ, Run, Setup
from bertnli.backends.interface import Backend
from bertnli.data.dataset import build_vocab
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.read import train_and_dev
from bertnli.data.sources import own_dev
from bertnli.data.text import Text, build_text_vocab, read_text
from bertnli.errors import ConfigError
from bertnli.hub.catalogue import CLASSIFIER, PRETRAINED
from bertnli.nets.classifier import Classifier
from bertnli.text.subwords import train_word_pieces
from bertnli.text.vocab import Vocab


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
    dropout: float | None = None,
    min_freq: int | None = None,
    max_len: int | None = None,
    truncation: str | None = None,
    recipe: str = "book",
    rank_timeout: timedelta | None = None,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Train a classifier of sentence pairs, from a pretrained BERT or from scratch.

    Args:
        train: a source of pairs, see `bertnli.read`; its train split, if it has several.
        dev: a source to choose the best epoch by; or the share of the training pairs to hold out by
            premise, such as 0.1. None for the dev split of ``train``, if it has one.
        output: the folder of the run; None to write nothing.
        backend: ``"torch"`` or ``"mxnet"``; None for the first that is installed.
        devices: the devices to compute on; None for all GPUs, or else the CPU.
        pretrained: the name or the path of a model to start from; None for start values.
        model: from scratch, the name of the sizes in `PRESETS`; None for bert.small's.
        new_head: whether to replace the output layer if ``pretrained`` is a classifier.
        dropout: the dropout probability; None for a checkpoint's own, or else 0.1.
        min_freq: from scratch, the number of times that a word must occur to get into the
            vocabulary; None for 5.
        max_len, truncation: how pairs are cut to length; None for the encoding of the pretrained
            classifier, or else 128 tokens.
        recipe: a name in `bertnli.bert.config.RECIPES`: ``"book"`` or ``"best"``.
        rank_timeout: how long one of several processes waits for the others; see ``Trainer``.
        progress: whether to print the data, the model and each epoch.
        options: arguments of `bertnli.read`; sizes (``num_hiddens``, ``ffn_num_hiddens``,
            ``num_heads``, ``num_blks``, ``max_positions``); settings of `TrainingConfig`;
            ``precision``, ``micro_batch_size`` and ``auto_batch`` of ``Trainer``;
            ``overwrite``, ``resume``, ``save_every``, ``keep``, ``tensorboard``, ``on_epoch`` and
            ``observers`` of its ``fit``.

    Raises:
        BERTNLIError: a source cannot be read, a setting is invalid, or the training fails.
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
            raise ConfigError("--min-freq and --model are not for a pretrained model")
        bert = setup.pretrained(pretrained, dropout, kind=PRETRAINED if new_head else CLASSIFIER)
    elif new_head:
        raise ConfigError("new_head (--new-head) is for pretrained models (--pretrained)")

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
    else:  # The vocabulary is known: read the source as ids, without the text in between.
        encoding = encoding_of(bert.config, bert.head and bert.head.encoding, max_len, truncation)
        train_set = read_ids(train, None, bert.vocab, encoding, default="train", **reading)
        net = classifier(train_set.label_names)
        used = encoding_of(net.config, net.encoding, max_len, truncation)
        if used != encoding:  # The classes differ from the checkpoint's: its encoding is not used.
            train_set = read_ids(train, None, bert.vocab, used, default="train", **reading)
        dev = own_dev(train) if dev is None else dev
        reading = {"labels": train_set.label_names, **reading, "probabilities": None}
        dev_set = None if dev is None else read_ids(dev, None, bert.vocab, used, **reading)
    setup.print(f"train: {describe(train_set)}")
    if dev_set is not None:
        setup.print(f"dev: {describe(dev_set)}")
    setup.print_net(net, train_set.token_ids, "training set")
    setup.print(f"output layer: {net.output_origin}")
    cut = f"{int(train_set.is_cut.sum())} have more than {train_set.max_len} tokens (--max-len)"
    num_steps = -(-len(train_set) // setup.config.batch_size)
    setup.print(f"pairs: {cut} and were cut; {num_steps} steps an epoch")
    return setup.fit(net, train_set, dev_set)


def pretrain(
    text: str | Path | Sequence[str | Path],
    dev_text: str | Path | Sequence[str | Path] | None = None,
    *,
    text_column: str | None = None,
    split_sentences: bool = False,
    next_sentence: bool = True,
    whole_words: bool = False,
    mask_rate: float = 0.15,
    output: str | Path | None = None,
    backend: str | Backend | None = None,
    devices: Any = None,
    pretrained: str | Path | None = None,
    model: str | None = None,
    dropout: float | None = None,
    min_freq: int | None = None,
    word_pieces: int | None = None,
    max_len: int | None = None,
    recipe: str = "book",
    rank_timeout: timedelta | None = None,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Pretrain a BERT on plain text: masked words, and whether a sentence follows another.

    Args:
        text, text_column, split_sentences: the arguments of `bertnli.data.text.read_text`.
        dev_text: text to choose the best epoch by, read in the same way.
        next_sentence, whole_words, mask_rate: the tasks; see `PretrainingSet`.
        pretrained: the name or the path of a model to start from; None for start values.
        min_freq: the number of times that a word must occur to get into the vocabulary; None for 5.
        word_pieces: the number of word pieces to learn from the text; None for a vocabulary of its
            words.
        max_len: the number of tokens of an example; None for 128.
        output, backend, devices, model, dropout, recipe, rank_timeout, progress, options: see
            `bertnli.train`; the arguments of `bertnli.read` go with ``text_column``.

    Raises:
        BERTNLIError: a text cannot be read, a setting is invalid, or the training fails.

    Examples:
        >>> from pathlib import Path
        >>> sentences = "a dog runs . it is fast .\\n\\na cat sleeps . it is warm .\\n" * 20
        >>> _ = Path("text.txt").write_text(sentences)
        >>> sizes = {"num_hiddens": 8, "ffn_num_hiddens": 16, "num_heads": 2, "num_blks": 1}
        >>> run = bertnli.pretrain("text.txt", num_epochs=1, max_len=32, progress=False, **sizes)
        >>> run.net.config.num_hiddens
        8
    """
    setup = Setup(backend, devices, output, progress, recipe, rank_timeout, options)
    if pretrained is not None and (min_freq is not None or word_pieces is not None):
        raise ConfigError("a pretrained model brings its vocabulary with it")
    train_text = read_text(text, split_sentences, text_column, **setup.reading)
    if pretrained is not None:
        bert = setup.pretrained(pretrained, dropout)
    else:
        vocab: Vocab
        if word_pieces is not None:
            vocab = train_word_pieces(train_text.sentences, word_pieces)
        else:
            vocab = build_text_vocab(train_text, MIN_FREQ if min_freq is None else min_freq)
        bert = setup.from_scratch(model, vocab, dropout)
    net = setup.backend.BERTForPretraining(bert, next_sentence=next_sentence)

    def encoded(name: str, text: Text) -> PretrainingSet:
        tasks: Any = {"next_sentence": next_sentence, "whole_words": whole_words}
        width = encoding_of(net.config, None, max_len, None).max_len
        data = PretrainingSet(text, width, net.required_vocab(), mask_rate=mask_rate, **tasks)
        skipped = ", ".join(f"{n} ({reason})" for reason, n in data.skipped.items())
        left_out = f"; sentences left out: {skipped}" if skipped else ""
        size = f"{len(data.documents)} sentences, {data.num_tokens} tokens, {len(data)} examples"
        setup.print(f"{name}: {size} an epoch from {data.source}{left_out}")
        return data

    train_set, dev_set = encoded("text", train_text), None
    if dev_text is not None:
        dev = read_text(dev_text, split_sentences, text_column, **setup.reading)
        dev_set = encoded("dev text", dev)
    setup.print_net(net, train_set.token_ids, "text")
    return setup.fit(net, train_set, dev_set)
