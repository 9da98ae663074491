"""Pretrain a BERT on plain text: masked words, and which sentence follows.

A line of a text file is a sentence, and an empty line ends a document. The output folder is a
run's, as with `bertnli train`, and `bertnli train --pretrained RUN` takes its best/: the last
epoch, or with --dev-text the one with the most masked words predicted right.

examples:
  bertnli pretrain --text corpus.txt --output runs/pretrained --epochs 10 --batch-size 256 \\
      --lr 1e-3 --schedule linear --warmup 0.05
      bert.small's sizes, with a vocabulary of the text's words
  bertnli pretrain --text wiki.txt --split-sentences --word-pieces 8000 --whole-words \\
      --tasks mlm --output runs/mlm
      a line is a paragraph; word pieces are learned of the text, and words masked as a whole
  bertnli pretrain --text reviews.txt --pretrained bert.small --output runs/adapted
      go on with a model that there is, on text of your own
"""

from __future__ import annotations

import argparse
from typing import Any

from bertnli.backends.interface import Backend
from bertnli.cli import options, recipes, runs
from bertnli.config import PRESETS
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import Text, build_text_vocab, read_text
from bertnli.errors import ConfigError
from bertnli.parameters import bert_shapes
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import train_word_pieces

TASKS = ("mlm,nsp", "mlm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    runs.add_run_options(parser)
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text", nargs="+", required=True, metavar="FILE", help="UTF-8, a sentence a line"
    )
    group.add_argument(
        "--dev-text", nargs="+", metavar="FILE", help="what the best epoch is chosen by"
    )
    group.add_argument(
        "--split-sentences",
        action="store_true",
        help="a line is a document of several sentences, which end at . ! or ?",
    )
    group = parser.add_argument_group("tasks")
    group.add_argument(
        "--tasks",
        choices=TASKS,
        default=TASKS[0],
        metavar="TASKS",
        help="mlm,nsp: masked words and the next sentence; mlm: masked words alone (default: "
        "mlm,nsp)",
    )
    group.add_argument("--whole-words", action="store_true", help="mask all pieces of a word")
    group.add_argument(
        "--mask-rate",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="of an example's tokens that are predicted (default: 0.15)",
    )
    group = parser.add_argument_group("model")
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--pretrained", metavar="MODEL", help="go on with this one; see `bertnli train --help`"
    )
    start.add_argument(
        "--model",
        choices=sorted(PRESETS),
        help=f"from start values, with the sizes of this one (default: {runs.SCRATCH_MODEL})",
    )
    runs.add_size_options(group)
    vocabulary = group.add_mutually_exclusive_group()
    runs.add_min_freq_option(vocabulary)
    vocabulary.add_argument(
        "--word-pieces",
        type=options.positive,
        metavar="N",
        help="learn so many word pieces of the text, instead of taking its words",
    )
    recipes.add_training_options(parser)
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Pretrain, and say what was done."""
    backend = options.backend_of(args)
    devices = backend.as_devices(args.devices)
    args.quiet = args.quiet or not backend.find_workers(args.rank_timeout).is_first
    config = recipes.training_config(args)
    if args.truncation not in (None, "book"):
        raise ConfigError("--truncation is for labelled pairs; text is cut as the book cuts it")
    runs.check_folders(args, backend)
    text = read_text(args.text, args.split_sentences)
    next_sentence = args.tasks == TASKS[0]
    bert = _make_bert(args, backend, devices, text)
    net = backend.BERTForPretraining(bert, next_sentence=next_sentence)
    max_len = options.encoding_of(args, net.config, None).max_len
    vocab = net.required_vocab()

    def encoded(found: Text) -> PretrainingSet:
        return PretrainingSet(
            found,
            max_len,
            vocab,
            next_sentence=next_sentence,
            whole_words=args.whole_words,
            mask_rate=args.mask_rate,
        )

    train_set = encoded(text)
    dev_set = None
    if args.dev_text is not None:
        dev_set = encoded(read_text(args.dev_text, args.split_sentences))
    for name, data in (("text", train_set), ("dev text", dev_set)):
        if data is not None:
            runs.say(args, f"{name}: {_describe(data)}")
    runs.say(args, runs.describe_sizes(args, net.config, bert_shapes(net.config)))
    runs.say(args, runs.describe_vocab(train_set.token_ids, vocab, "text"))
    runs.say(args, f"backend: {backend.name} on {', '.join(map(str, devices))}")
    return runs.fit(args, config, backend, devices, net, train_set, dev_set)


def _make_bert(args: argparse.Namespace, backend: Backend, devices: Any, text: Text) -> Any:
    """Return the model to pretrain."""
    sizes = runs.sizes_of(args)
    if args.pretrained is not None:
        if args.min_freq is not None or args.word_pieces is not None:
            raise ConfigError("a pretrained model brings its vocabulary with it")
        return backend.load_pretrained_model(
            args.pretrained, **sizes, dropout=args.dropout, devices=devices
        )[0]
    vocab: Vocab
    if args.word_pieces is not None:
        vocab = train_word_pieces(text.sentences, args.word_pieces)
    else:
        vocab = build_text_vocab(text, runs.min_freq_of(args))
    sizes = {**PRESETS[args.model or runs.SCRATCH_MODEL], **sizes}
    return backend.BERTModel(len(vocab), **sizes, dropout=args.dropout, seed=args.seed, vocab=vocab)


def _describe(data: PretrainingSet) -> str:
    skipped = ", ".join(f"{n} ({reason})" for reason, n in data.skipped.items())
    return (
        f"{len(data.documents)} sentences, {data.num_tokens} tokens, {len(data)} examples an epoch "
        f"from {data.source}" + (f"; sentences left out: {skipped}" if skipped else "")
    )
