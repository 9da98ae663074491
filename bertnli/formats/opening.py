"""A pretrained BERT or a saved classifier, whole and checked, from files of any format."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW
from bertnli.bert.config import PRESETS, BERTConfig
from bertnli.bert.labels import are_distinct, checked_labels
from bertnli.bert.parameters import (
    OTHER_SIZES,
    bert_shapes,
    check_shapes,
    classifier_shapes,
    initial_arrays,
)
from bertnli.errors import CheckpointError, CheckpointWarning, ConfigError
from bertnli.formats import gluonnlp
from bertnli.formats.contents import Contents, check_here, locate, read_contents
from bertnli.formats.head import Head, head_of
from bertnli.hub.catalogue import PRETRAINED
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

#: Where the tensors' names begin that a classifier does not have.
PRETRAINING_HEADS = ("mlm.", "nsp.")
#: The multiples to which tools fill up the rows of the word embeddings.
PADDED = (8, 16, 32, 64, 128)
#: Heads of a pretrained model, each of which a file may lack as a whole.
HEADS = (*PRETRAINING_HEADS, "hidden.")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        arrays: canonical name to tensor, all that the model has.
        config: its sizes.
        vocab: its vocabulary.
        labels: the classes' names in the order of the logits; None of a pretrained model.
        source: where it comes from, for messages.
        started: the tensors that the file lacks, which have start values.
        encoding: how a classifier's pairs are cut to length, in the book's way where the files do
            not tell; None of a pretrained model.
        given: what the user said and the files do not, so that nothing can check it.
        head: the output layer, of a classifier; also where it is opened as a pretrained model.
    """

    arrays: Mapping[str, NDArray]
    config: BERTConfig
    vocab: Vocab
    labels: tuple[str, ...] | None
    source: str
    started: tuple[str, ...] = ()
    encoding: PairEncoding | None = None
    given: tuple[str, ...] = ()
    head: Head | None = None

    @property
    def reservation(self) -> str:
        """What a comparison of numbers says nothing about, for the line that shows it."""
        if not self.given:
            return ""
        return f" (not checked, for it was given and is in no file: {'; '.join(self.given)})"


def open_pretrained(
    pretrained_model: str | Path,
    framework: str | None = None,
    sizes: Mapping[str, int | None] | None = None,
    dropout: float | None = None,
    kind: str = PRETRAINED,
) -> Checkpoint:
    """Return a pretrained BERT; see a backend's ``load_pretrained_model``.

    Heads that a Hugging Face folder or a file of GluonNLP lacks have start values. Of a classifier
    the output layer is kept apart, and the heads have start values.

    Args:
        pretrained_model: a name of the hub, or the path of a folder, archive or file.
        framework: whose file to take where the hub has one for each.
        sizes: names of `BERTConfig` to values; those that are None are the file's.
        dropout: None for what the file says, or else the book's.
        kind: which to take of a model that comes with bertnli; see `bertnli.hub.catalogue.bundled`.
    """
    usual_heads = PRESETS.get(str(pretrained_model), {}).get("num_heads")
    contents = read_contents(locate(pretrained_model, framework, kind))
    return _pretrained(contents, sizes or {}, dropout, usual_heads)


def _pretrained(
    contents: Contents,
    sizes: Mapping[str, int | None],
    dropout: float | None = None,
    usual_heads: int | None = None,
) -> Checkpoint:
    given: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
    num_heads = given.get("num_heads", usual_heads)
    vocab = _vocab(contents, _unknown_heads(contents, num_heads))
    config = _with_heads(contents, num_heads)
    config = config if dropout is None else replace(config, dropout=dropout)
    arrays, source = contents.arrays, str(contents.path)
    has_heads = contents.is_exact and not contents.is_classifier
    if has_heads and not contents.heads_known:  # the book's file, whose shapes are judged
        config = replace(config, vocab_size=len(vocab), **given)
    else:
        wrong = [f"{key}={size}" for key, size in given.items() if getattr(config, key) != size]
        if wrong:
            raise CheckpointError(
                f"{source} has other sizes than {', '.join(wrong)}; leave them out to take the "
                "file's"
            )
        _check_vocab(vocab, contents)
    head = _head(contents)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("output.")}
    shapes = bert_shapes(config)
    absent: tuple[str, ...] = ()
    if not has_heads:
        absent = tuple(head for head in HEADS if not any(name.startswith(head) for name in arrays))
    lacking = {name: shape for name, shape in shapes.items() if name.startswith(absent)}
    there = {name: shape for name, shape in shapes.items() if name not in lacking}
    check_shapes(arrays, there, source, OTHER_SIZES if given else COPY_ANEW)
    arrays |= initial_arrays(lacking, 0)
    unchecked = _given_heads(contents, given.get("num_heads"))
    return Checkpoint(arrays, config, vocab, None, source, tuple(lacking), None, unchecked, head)


def open_classifier(
    path: str | Path, labels: Sequence[str] | None = None, num_heads: int | None = None
) -> Checkpoint:
    """Return a saved classifier of any format.

    Args:
        path: of the folder or the file.
        labels: the classes' names in the order of the logits, where it has no names.
        num_heads: attention heads, where it does not tell.

    Raises:
        CheckpointError: there is no classifier, it is damaged, its classes have no names, or other
            names than were given.
        ConfigError: the number of heads is unknown.
    """
    return _classifier(read_contents(_local(path, classifies=True)), labels, num_heads)


def _classifier(
    contents: Contents, labels: Sequence[str] | None, num_heads: int | None
) -> Checkpoint:
    source, named = str(contents.path), contents.labels
    if not contents.is_classifier:
        raise CheckpointError(
            f"{source} holds a BERT without a classifier; fine-tune it first, with "
            "load_pretrained_model or `bertnli train --pretrained`"
        )
    if contents.other_head:
        raise CheckpointError(contents.other_head)
    classes = contents.arrays["output.weight"].shape[:1]
    if labels is not None:
        labels = checked_labels(labels)
    # All that is missing at once, and not one thing after the other.
    no_heads = _unknown_heads(contents, num_heads)
    no_names = _unnamed(contents) if named is None and labels is None else ""
    vocab = _vocab(contents, no_names, no_heads)
    if no_names:
        raise CheckpointError(". Also: ".join(filter(None, (no_names, no_heads))))
    if labels is not None and named is not None and classes != (len(named),):
        named = None  # names of another head
    if named is not None and labels is not None and _plain(named) != _plain(labels):
        raise CheckpointError(
            f"{source} says that its classes are {list(named)}, in this order, and not "
            f"{list(labels)}; leave the names out to take the file's"
        )
    chosen = tuple(named if named is not None else labels or ())
    if len(chosen) < 2 or (classes and classes != (len(chosen),)):
        raise CheckpointError(
            f"{source} has an output for each of {classes[0] if classes else 'no'} classes, and "
            f"{len(chosen)} names: {', '.join(chosen)}; there must be as many, and two at least "
            "(labels=[...] or --labels gives them)"
        )
    if not are_distinct(chosen):
        raise CheckpointError(f"{source} does not give each class a name: {list(chosen)}")
    config = _with_heads(contents, num_heads)
    _check_vocab(vocab, contents)
    arrays = {
        name: array
        for name, array in contents.arrays.items()
        if not name.startswith(PRETRAINING_HEADS)
    }
    check_shapes(arrays, classifier_shapes(config, len(chosen)), source, COPY_ANEW)
    encoding = contents.encoding or PairEncoding.default(config.max_len)
    unchecked = _given_heads(contents, num_heads)
    if named is None:
        unchecked += (f"the order of the classes, {', '.join(chosen)}",)
    head = head_of(arrays, chosen, encoding, source)
    return Checkpoint(arrays, config, vocab, chosen, source, (), encoding, unchecked, head)


def open_checkpoint(
    path: str | Path, labels: Sequence[str] | None = None, num_heads: int | None = None
) -> Checkpoint:
    """Return what a local checkpoint holds, a classifier or a pretrained model.

    Args:
        path: a folder, archive or file of any format.
        labels: the classes' names in the order of the logits, where it has none.
        num_heads: attention heads, where it does not tell.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: the number of heads is unknown.
    """
    contents = read_contents(_local(path))
    if contents.is_classifier:
        return _classifier(contents, labels, num_heads)
    if labels is not None:
        raise CheckpointError(f"{path} is a pretrained model, which has no classes to name")
    return _pretrained(contents, {"num_heads": num_heads})


def _head(contents: Contents) -> Head | None:
    """Return the output layer of a classifier; None of a pretrained model, or without a pooler."""
    arrays = contents.arrays
    if not contents.is_classifier or "hidden.weight" not in arrays:
        return None
    if contents.other_head:
        return Head({}, None, None, contents.other_head)
    encoding = contents.encoding or PairEncoding.default(contents.config.max_len)
    return head_of(arrays, contents.labels, encoding, str(contents.path), contents.unnamed)


def _local(path: str | Path, classifies: bool = False) -> Path:
    check_here(path, classifies)
    return locate(path)


def _with_heads(contents: Contents, num_heads: int | None) -> BERTConfig:
    """Return the sizes, with a number of heads that the files tell or that was given."""
    if contents.heads_known:
        if num_heads is not None and num_heads != contents.config.num_heads:
            raise CheckpointError(
                f"{contents.path} has {contents.config.num_heads} heads by its description, and "
                f"not {num_heads}"
            )
        return contents.config
    if num_heads is None:
        raise ConfigError(_unknown_heads(contents, num_heads))
    return replace(contents.config, num_heads=num_heads)


def _unknown_heads(contents: Contents, num_heads: int | None) -> str:
    """Return what to say where neither the files nor the user tell the number of heads."""
    if contents.heads_known or num_heads is not None:
        return ""
    return (
        f"give num_heads (--num-heads) for {contents.path}: a checkpoint's shapes do not tell its "
        "number of attention heads, and a wrong one computes something else without an error"
    )


def _unnamed(contents: Contents) -> str:
    """Return what to say of a classifier whose classes have no names.

    It is an error, for no file shows the order of the classes, and a wrong one looks like a bad
    model.
    """
    why = f" ({contents.unnamed})" if contents.unnamed else ""
    return (
        f"{contents.path} does not name its classes{why}, and their order cannot be guessed; give "
        "the names in the order of the logits, labels=[...] or --labels"
    )


def _given_heads(contents: Contents, num_heads: int | None) -> tuple[str, ...]:
    return () if contents.heads_known or num_heads is None else (f"num_heads={num_heads}",)


def _vocab(contents: Contents, *missing: str) -> Vocab:
    """Return the vocabulary; without one, raise an error that says what else is missing."""
    vocab = contents.vocab()
    if vocab is None:
        lacking = (
            f"{contents.path} has no vocab.json beside it, nor tokenizer.json or vocab.txt; put "
            "the vocabulary that it was trained with there"
        )
        raise CheckpointError(". Also: ".join([lacking, *filter(None, missing)]))
    return vocab


def vocab_mismatch(vocab: Vocab, contents: Contents) -> tuple[str, bool]:
    """Return what is wrong with the number of tokens, and whether the model computes all the same.

    Only models of word pieces have rows to spare, and not all. Tools fill their number up to a
    multiple, one of `PADDED`; where more are without a token, some of the list is missing.

    Returns:
        Nothing is wrong: an empty text, and True.
    """
    tokens, rows = len(vocab), contents.config.vocab_size
    text = f"{contents.path}: the vocabulary has {tokens:,} tokens, the model rows for {rows:,}"
    may_spare = type(vocab) is not Vocab and contents.format != gluonnlp.FORMAT
    if tokens > rows or (tokens < rows and not may_spare):
        return text, False
    # Of a tiny list such a multiple could be several times as long.
    is_padded = rows < 2 * tokens and any(rows == -(-tokens // n) * n for n in PADDED)
    if tokens < rows and not is_padded:
        return f"{text}; if the list is cut short, copy it anew, for its words are unknown", True
    return "", True


def _check_vocab(vocab: Vocab, contents: Contents) -> None:
    """Refuse a vocabulary that does not fit the model, and warn of one that hardly does."""
    problem, usable = vocab_mismatch(vocab, contents)
    if not usable:
        raise CheckpointError(problem)
    if problem:
        warnings.warn(problem, CheckpointWarning, stacklevel=2)


def _plain(labels: Sequence[str]) -> list[str]:
    return [label.strip().lower() for label in labels]
