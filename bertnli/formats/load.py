"""Load a pretrained BERT or a classifier from files of any format, complete and checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertnli._util.files import COPY_ANEW
from bertnli.bert.config import PRESETS
from bertnli.bert.labels import are_distinct, checked_labels, plain
from bertnli.bert.parameters import bert_shapes, check_shapes, classifier_shapes, initial_arrays
from bertnli.errors import CheckpointError, CheckpointWarning, ConfigError
from bertnli.formats import book, exported, gluonnlp, huggingface, native, weights
from bertnli.formats.checkpoint import WEIGHT, Checkpoint, head_of
from bertnli.formats.weights import locate, locate_local
from bertnli.hub.catalogue import PRETRAINED
from bertnli.text.pairs import PairEncoding
from bertnli.text.subwords import load_vocab

#: The formats in the order in which they are tried; if none matches, it is the book's. Each is a
#: module with `match(file, stored)`, whether a file with these tensors is of the format, and
#: `read(file, stored)`, which returns a checkpoint without its vocabulary.
FORMATS: tuple[Any, ...] = (native, gluonnlp, exported, huggingface)
#: Prefixes of the tensors that a classifier does not have.
PRETRAINING_HEADS = ("mlm.", "nsp.")
#: Prefixes of a pretrained model's heads; a file may lack all tensors of a head.
HEADS = (*PRETRAINING_HEADS, "hidden.")
#: The largest multiple to which tools round up the rows of the token embedding.
PADDED = 128


def load_pretrained(
    pretrained_model: str | Path,
    framework: str | None = None,
    sizes: Mapping[str, int | None] | None = None,
    dropout: float | None = None,
    kind: str = PRETRAINED,
) -> Checkpoint:
    """Load a pretrained BERT; see a backend's ``load_pretrained_model``.

    Heads that a file lacks get start values. A classifier is loaded as a pretrained model, with its
    output layer apart in ``head``.

    Args:
        pretrained_model, framework, kind: see `bertnli.formats.weights.locate`.
        sizes: expected values of `BERTConfig` fields; None where any value is accepted.
        dropout: the dropout probability; None for the file's, or else the book's.
    """
    usual_heads = PRESETS.get(str(pretrained_model), {}).get("num_heads")
    checkpoint = read_checkpoint(locate(pretrained_model, framework, kind))
    return _pretrained(checkpoint, sizes or {}, dropout, usual_heads)


def load_classifier(
    path: str | Path, labels: Sequence[str] | None = None, num_heads: int | None = None
) -> Checkpoint:
    """Load a classifier of any format.

    Args:
        path: path of the folder or the file.
        labels: class names in the order of the logits, needed if the files have none.
        num_heads: number of attention heads, needed if the files do not say it.
    """
    return _classifier(read_checkpoint(locate_local(path)), labels, num_heads)


def load_checkpoint(
    path: str | Path, labels: Sequence[str] | None = None, num_heads: int | None = None
) -> Checkpoint:
    """Load a classifier or a pretrained model; see `load_classifier`."""
    checkpoint = read_checkpoint(locate_local(path))
    if checkpoint.is_classifier:
        return _classifier(checkpoint, labels, num_heads)
    if labels is not None:
        raise CheckpointError(f"{path} is a pretrained model, which has no classes to name")
    return _pretrained(checkpoint, {"num_heads": num_heads})


def read_checkpoint(path: Path, with_vocab: bool = True) -> Checkpoint:
    """Read the files of a checkpoint without completing them: heads or names may be missing.

    Args:
        path: path of a folder, or of a file of tensors.
        with_vocab: whether to read the vocabulary, which may need the package tokenizers.
    """
    file = weights.find(path)
    stored = weights.read(file)
    format = next((format for format in FORMATS if format.match(file, stored)), book)
    checkpoint: Checkpoint = format.read(file, stored)
    vocab = None
    if with_vocab:
        of_mxnet = format in (gluonnlp, exported)
        vocab = gluonnlp.find_vocab(file) if of_mxnet else load_vocab(file.parent)
    source = str(path if path.is_file() else file.parent)
    checkpoint = replace(checkpoint, source=source, vocab=vocab or checkpoint.vocab)
    return (
        huggingface.with_segments(checkpoint, file.parent) if format is huggingface else checkpoint
    )


def _pretrained(
    checkpoint: Checkpoint,
    sizes: Mapping[str, int | None],
    dropout: float | None = None,
    usual_heads: int | None = None,
) -> Checkpoint:
    """Complete and check a pretrained model; see `load_pretrained`."""
    given = {name: size for name, size in sizes.items() if size is not None}
    checkpoint = _with_heads(checkpoint, given.get("num_heads"), usual_heads)
    config = checkpoint.config
    wrong: dict[str, Any] = {
        name: size for name, size in given.items() if getattr(config, name) != size
    }
    advice = f"Leave {', '.join(wrong)} out to take the file's sizes" if wrong else COPY_ANEW
    arrays = {k: array for k, array in checkpoint.arrays.items() if not k.startswith("output.")}
    shapes = bert_shapes(replace(config, **wrong))
    absent = tuple(head for head in HEADS if not any(name.startswith(head) for name in arrays))
    lacking = {name: shape for name, shape in shapes.items() if name.startswith(absent)}
    present = {name: shape for name, shape in shapes.items() if name not in lacking}
    check_shapes(arrays, present, checkpoint.source, advice)
    if wrong:  # sizes that no shape shows
        raise CheckpointError(f"{checkpoint.source} has other sizes than {wrong}. {advice}")
    return replace(
        checkpoint,
        arrays=arrays | initial_arrays(lacking, 0),
        config=config if dropout is None else config.with_dropout(dropout),
        labels=None,
        started=tuple(lacking),
        encoding=None,
        head=head_of(checkpoint),
    )


def _classifier(
    checkpoint: Checkpoint, labels: Sequence[str] | None, num_heads: int | None
) -> Checkpoint:
    """Complete and check a classifier; see `load_classifier`."""
    source, no_names = checkpoint.source, ""
    if not checkpoint.is_classifier:
        raise CheckpointError(
            f"{source} holds a BERT without a classifier; fine-tune it first, with "
            "load_pretrained_model or `bertnli train --pretrained`"
        )
    if checkpoint.other_head:
        raise CheckpointError(checkpoint.other_head)
    labels = None if labels is None else checked_labels(labels)
    if checkpoint.labels is None and labels is None:
        # No file shows the order of the classes, and a wrong one looks like a bad model.
        why = f" ({checkpoint.unnamed})" if checkpoint.unnamed else ""
        no_names = (
            f"{source} does not name its classes{why}, and their order cannot be "
            "guessed; give the names in the order of the logits, labels=[...] or --labels"
        )
    checkpoint = _with_heads(checkpoint, num_heads, no_names=no_names)
    chosen, are_given = _chosen_labels(checkpoint, labels)
    stored, config, given = checkpoint.arrays.items(), checkpoint.config, checkpoint.given
    arrays = {name: array for name, array in stored if not name.startswith(PRETRAINING_HEADS)}
    check_shapes(arrays, classifier_shapes(config, len(chosen)), source, COPY_ANEW)
    if are_given:
        given += (f"the order of the classes, {', '.join(chosen)}",)
    encoding = checkpoint.encoding or PairEncoding.default(config.max_len)
    classifier = replace(checkpoint, arrays=arrays, labels=chosen, encoding=encoding, given=given)
    return replace(classifier, head=head_of(classifier))


def _chosen_labels(
    checkpoint: Checkpoint, labels: Sequence[str] | None
) -> tuple[tuple[str, ...], bool]:
    """Choose a classifier's class names: the file's, or else ``labels``, those of the user.

    Returns:
        The names, and whether they are the user's.
    """
    source, named = checkpoint.source, checkpoint.labels
    classes = checkpoint.arrays[WEIGHT].shape[:1]
    if labels is not None and named is not None:
        if classes != (len(named),):
            named = None  # names of another head
        elif [*map(plain, named)] != [*map(plain, labels)]:
            raise CheckpointError(
                f"{source} says that its classes are {list(named)}, in this order, and not "
                f"{list(labels)}; leave the names out to take the file's"
            )
    chosen = tuple(named or labels or ())
    if len(chosen) < 2 or (classes and classes != (len(chosen),)):
        raise CheckpointError(
            f"{source} has an output for each of {classes[0] if classes else 'no'} classes, and "
            f"{len(chosen)} names: {', '.join(chosen)}; there must be as many, and two at least "
            "(labels=[...] or --labels gives them)"
        )
    if not are_distinct(chosen):
        raise CheckpointError(f"{source} does not give each class a name: {list(chosen)}")
    return chosen, named is None


def _with_heads(
    checkpoint: Checkpoint,
    num_heads: int | None,
    usual_heads: int | None = None,
    no_names: str = "",
) -> Checkpoint:
    """Set the number of heads: the files', the user's ``num_heads``, or else ``usual_heads``.

    Missing heads, a missing vocabulary, and missing class names, about which ``no_names`` is the
    message, are reported together.
    """
    source, config = checkpoint.source, checkpoint.config
    heads = usual_heads if num_heads is None else num_heads
    no_vocab = no_heads = ""
    if not len(checkpoint.vocab):
        no_vocab = (
            f"{source} has no vocab.json beside it, nor tokenizer.json or vocab.txt; put the "
            "vocabulary that it was trained with there"
        )
    if not checkpoint.heads_known and heads is None:
        no_heads = (
            f"give num_heads (--num-heads) for {source}: a checkpoint's shapes do not tell its "
            "number of attention heads, and a wrong one computes something else without an error"
        )
    problems = [problem for problem in (no_vocab, no_names, no_heads) if problem]
    if problems:
        kind = ConfigError if problems == [no_heads] else CheckpointError
        raise kind(". Also: ".join(problems))
    if checkpoint.heads_known and heads not in (None, config.num_heads):
        raise CheckpointError(
            f"{source} has {config.num_heads} heads by its description, and not {heads}"
        )
    problem, is_usable = vocab_mismatch(checkpoint)
    if not is_usable:
        raise CheckpointError(problem)
    if problem:
        warnings.warn(problem, CheckpointWarning, stacklevel=2)
    if heads is not None:
        config = replace(config, num_heads=heads)
    is_given = num_heads is not None and not checkpoint.heads_known
    given = (f"num_heads={num_heads}",) if is_given else ()
    return replace(checkpoint, config=config, given=given)


def vocab_mismatch(checkpoint: Checkpoint) -> tuple[str, bool]:
    """Compare the vocabulary with the model: segments, and the size of the token embedding.

    Tools round the rows of a word-piece model's embedding up to a multiple of at most `PADDED`;
    more unused rows mean that tokens are missing.

    Returns:
        A message, empty if the sizes fit, and whether the model can be used.
    """
    vocab, config = checkpoint.vocab, checkpoint.config
    if config.pair_segments and config.num_segments and not vocab.gives_segments:
        return (
            f"{checkpoint.source}: the model reads the segments of a pair's sentences, and its "
            "tokenizer gives both the first; put the tokenizer there that it was trained with"
        ), False
    tokens, rows = len(vocab), config.vocab_size
    text = f"{checkpoint.source}: the vocabulary has {tokens:,} tokens, the model rows for {rows:,}"
    may_spare = not vocab.WHOLE_WORDS and not checkpoint.format.startswith(gluonnlp.FORMAT)
    if tokens > rows or (tokens < rows and not may_spare):
        return text, False
    if rows - tokens >= PADDED or rows >= 2 * tokens:
        return f"{text}; if the list is cut short, copy it anew, for its words are unknown", True
    return "", True
