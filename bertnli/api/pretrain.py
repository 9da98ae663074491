"""Pretraining on plain text, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from bertnli.api.runs import MIN_FREQ, Run, Setup
from bertnli.api.sets import encoding_of
from bertnli.backends.interface import Backend
from bertnli.bert.parameters import bert_shapes
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import Text, build_text_vocab, read_text
from bertnli.errors import ConfigError
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import train_word_pieces


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
    dropout: float = 0.1,
    min_freq: int | None = None,
    word_pieces: int | None = None,
    max_len: int | None = None,
    recipe: str = "book",
    rank_timeout: timedelta | None = None,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Pretrain a BERT on masked words, and on which sentence follows.

    Args:
        text, text_column, split_sentences: see `bertnli.data.text.read_text`.
        dev_text: likewise, to choose the best epoch by.
        next_sentence, whole_words, mask_rate: see `PretrainingSet`.
        pretrained: a model to go on with.
        min_freq: words seen less often become ``<unk>``; None for 5.
        word_pieces: learn as many word pieces of the text, instead of taking its words.
        max_len: tokens of an example; None for 128.
        output, backend, devices, model, dropout, recipe, rank_timeout, progress: as for
            `bertnli.train`.
        options: as for `bertnli.train`; those of `bertnli.read` go with ``text_column``.

    Returns:
        The net, the history and the folder.

    Raises:
        BERTNLIError: of a text, as `bertnli.data.text.read_text`; of settings, folders and
            training, as ``Trainer`` and its ``fit``.

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
        data = PretrainingSet(
            text,
            encoding_of(net.config, None, max_len, None).max_len,
            net.required_vocab(),
            next_sentence=next_sentence,
            whole_words=whole_words,
            mask_rate=mask_rate,
        )
        skipped = ", ".join(f"{n} ({reason})" for reason, n in data.skipped.items())
        setup.print(
            f"{name}: {len(data.documents)} sentences, {data.num_tokens} tokens, {len(data)} "
            f"examples an epoch from {data.source}"
            + (f"; sentences left out: {skipped}" if skipped else "")
        )
        return data

    train_set, dev_set = encoded("text", train_text), None
    if dev_text is not None:
        dev = read_text(dev_text, split_sentences, text_column, **setup.reading)
        dev_set = encoded("dev text", dev)
    setup.print_model(pretrained, net.config, bert_shapes(net.config))
    setup.print_vocab(train_set.token_ids, net.required_vocab(), "text")
    return setup.fit(net, train_set, dev_set, pretrained is not None)
