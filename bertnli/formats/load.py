"""A pretrained BERT or a saved classifier, complete and checked, from files of any format."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertnli._util.files import COPY_ANEW
from bertnli.bert.config import PRESETS, BERTConfig
from bertnli.bert.labels import are_distinct, checked_labels
from bertnli.bert.parameters import bert_shapes, check_shapes, classifier_shapes, initial_arrays
from bertnli.errors import CheckpointError, CheckpointWarning, ConfigError
from bertnli.formats import book, gluonnlp, huggingface, native, weights
from bertnli.formats.checkpoint import Checkpoint, head_of
from bertnli.formats.weights import locate, locate_local
from bertnli.hub.catalogue import PRETRAINED
from bertnli.text.pairs import PairEncoding
from bertnli.text.wordpiece import load_vocab

#: The formats that can be read, which are asked in turn; the last takes what no other does. Each is
#: a module with `match(file, stored)`, whether a file with these tensors is of the format, and
#: `read(file, stored)`, which returns a checkpoint without its vocabulary.
FORMATS: tuple[Any, ...] = (native, gluonnlp, huggingface, book)
#: Where the tensors' names begin that a classifier does not have.
PRETRAINING_HEADS = ("mlm.", "nsp.")
#: Heads of a pretrained model, each of which a file may lack altogether.
HEADS = (*PRETRAINING_HEADS, "hidden.")
#: The largest multiple to which tools fill up the rows of the word embeddings.
PADDED = 128


def load_pretrained(
    pretrained_model: str | Path,
    framework: str | None = None,
    sizes: Mapping[str, int | None] | None = None,
    dropout: float | None = None,
    kind: str = PRETRAINED,
) -> Checkpoint:
    """Return a pretrained BERT; see a backend's ``load_pretrained_model``.

    Heads that a file lacks have start values. The output layer of a classifier is kept apart.

    Args:
        pretrained_model: a name of the hub, or the path of a folder, archive or file.
        framework: whose file to take where the hub has one for each.
        sizes: names of `BERTConfig` to values; those that are None are the file's.
        dropout: None for what the file says, or else the book's.
        kind: which to take of a model that comes with bertnli; see `bertnli.hub.catalogue.bundled`.

    Raises:
        CheckpointError: there is none, it is damaged, or has other sizes than were given.
        ConfigError: the number of heads is unknown.
    """
    usual_heads = PRESETS.get(str(pretrained_model), {}).get("num_heads")
    checkpoint = read_checkpoint(locate(pretrained_model, framework, kind))
    return _pretrained(checkpoint, sizes or {}, dropout, usual_heads)


def load_classifier(
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
    return _classifier(read_checkpoint(locate_local(path)), labels, num_heads)


def load_checkpoint(
    path: str | Path, labels: Sequence[str] | None = None, num_heads: int | None = None
) -> Checkpoint:
    """Load a local checkpoint: a classifier or a pretrained model.

    Args:
        path: a folder, archive or file of any format.
        labels: the classes' names in the order of the logits, where it has none.
        num_heads: attention heads, where it does not tell.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: the number of heads is unknown.
    """
    checkpoint = read_checkpoint(locate_local(path))
    if checkpoint.is_classifier:
        return _classifier(checkpoint, labels, num_heads)
    if labels is not None:
        raise CheckpointError(f"{path} is a pretrained model, which has no classes to name")
    return _pretrained(checkpoint, {"num_heads": num_heads})


def read_checkpoint(path: Path, with_vocab: bool = True) -> Checkpoint:
    """Read the files of a checkpoint as they are; heads or names may be missing.

    Args:
        path: of a folder, or of a file of tensors.
        with_vocab: read the vocabulary, too.

    Raises:
        CheckpointError: there is none, it is damaged, or is described as another model.
        DataError: its vocabulary cannot be read.
        BackendError: the package tokenizers is missing, and needed for the vocabulary.
    """
    file = weights.find(path)
    stored = weights.read(file)
    format = next(format for format in FORMATS if format.match(file, stored))
    checkpoint: Checkpoint = format.read(file, stored)
    vocab = None
    if with_vocab:
        vocab = gluonnlp.find_vocab(file) if format is gluonnlp else load_vocab(file.parent)
    source = str(path if path.is_file() else file.parent)
    return replace(checkpoint, source=source, vocab=vocab or checkpoint.vocab)


def _pretrained(
    checkpoint: Checkpoint,
    sizes: Mapping[str, int | None],
    dropout: float | None = None,
    usual_heads: int | None = None,
) -> Checkpoint:
    given = {name: size for name, size in sizes.items() if size is not None}
    config = _complete_config(checkpoint, given.get("num_heads", usual_heads))
    wrong: dict[str, Any] = {
        name: size for name, size in given.items() if getattr(config, name) != size
    }
    advice = f"Leave {', '.join(wrong)} out to take the file's sizes" if wrong else COPY_ANEW
    arrays = {k: array for k, array in checkpoint.arrays.items() if not k.startswith("output.")}
    shapes = bert_shapes(replace(config, **wrong))
    absent = tuple(head for head in HEADS if not any(name.startswith(head) for name in arrays))
    lacking = {name: shape for name, shape in shapes.items() if name.startswith(absent)}
    there = {name: shape for name, shape in shapes.items() if name not in lacking}
    check_shapes(arrays, there, checkpoint.source, advice)
    if wrong:  # of sizes that no shape shows
        raise CheckpointError(f"{checkpoint.source} has other sizes than {wrong}. {advice}")
    return replace(
        checkpoint,
        arrays=arrays | initial_arrays(lacking, 0),
        config=config if dropout is None else replace(config, dropout=dropout),
        labels=None,
        started=tuple(lacking),
        encoding=None,
        given=_given_heads(checkpoint, given.get("num_heads")),
        head=head_of(checkpoint),
    )


def _classifier(
    checkpoint: Checkpoint, labels: Sequence[str] | None, num_heads: int | None
) -> Checkpoint:
    if not checkpoint.is_classifier:
        raise CheckpointError(
            f"{checkpoint.source} holds a BERT without a classifier; fine-tune it first, with "
            "load_pretrained_model or `bertnli train --pretrained`"
        )
    if checkpoint.other_head:
        raise CheckpointError(checkpoint.other_head)
    labels = None if labels is None else checked_labels(labels)
    no_names = ""
    if checkpoint.labels is None and labels is None:
        # No file shows the order of the classes, and a wrong one looks like a bad model.
        why = f" ({checkpoint.unnamed})" if checkpoint.unnamed else ""
        no_names = (
            f"{checkpoint.source} does not name its classes{why}, and their order cannot be "
            "guessed; give the names in the order of the logits, labels=[...] or --labels"
        )
    config = _complete_config(checkpoint, num_heads, no_names)
    chosen, are_given = _chosen_labels(checkpoint, labels)
    arrays = {
        name: array
        for name, array in checkpoint.arrays.items()
        if not name.startswith(PRETRAINING_HEADS)
    }
    check_shapes(arrays, classifier_shapes(config, len(chosen)), checkpoint.source, COPY_ANEW)
    given = _given_heads(checkpoint, num_heads)
    if are_given:
        given += (f"the order of the classes, {', '.join(chosen)}",)
    encoding = checkpoint.encoding or PairEncoding.default(config.max_len)
    classifier = replace(
        checkpoint, arrays=arrays, config=config, labels=chosen, encoding=encoding, given=given
    )
    return replace(classifier, head=head_of(classifier))


def _chosen_labels(
    checkpoint: Checkpoint, labels: Sequence[str] | None
) -> tuple[tuple[str, ...], bool]:
    """Return the names of a classifier's classes, and whether they are the user's."""
    source, named = checkpoint.source, checkpoint.labels
    classes = checkpoint.arrays["output.weight"].shape[:1]
    if labels is not None and named is not None and classes != (len(named),):
        named = None  # names of another head
    if named is not None and labels is not None and _plain(named) != _plain(labels):
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


def _complete_config(
    checkpoint: Checkpoint, num_heads: int | None, no_names: str = ""
) -> BERTConfig:
    """Return the sizes, with the number of heads that the files tell or that was given.

    What neither the files nor the user tell is one error, together with ``no_names``.
    """
    source, config = checkpoint.source, checkpoint.config
    no_vocab = no_heads = ""
    if not len(checkpoint.vocab):
        no_vocab = (
            f"{source} has no vocab.json beside it, nor tokenizer.json or vocab.txt; put the "
            "vocabulary that it was trained with there"
        )
    if not checkpoint.heads_known and num_heads is None:
        no_heads = (
            f"give num_heads (--num-heads) for {source}: a checkpoint's shapes do not tell its "
            "number of attention heads, and a wrong one computes something else without an error"
        )
    problems = [problem for problem in (no_vocab, no_names, no_heads) if problem]
    if problems:
        kind = ConfigError if problems == [no_heads] else CheckpointError
        raise kind(". Also: ".join(problems))
    if checkpoint.heads_known and num_heads not in (None, config.num_heads):
        raise CheckpointError(
            f"{source} has {config.num_heads} heads by its description, and not {num_heads}"
        )
    problem, is_usable = vocab_mismatch(checkpoint)
    if not is_usable:
        raise CheckpointError(problem)
    if problem:
        warnings.warn(problem, CheckpointWarning, stacklevel=2)
    return config if num_heads is None else replace(config, num_heads=num_heads)


def _given_heads(checkpoint: Checkpoint, num_heads: int | None) -> tuple[str, ...]:
    return () if checkpoint.heads_known or num_heads is None else (f"num_heads={num_heads}",)


def vocab_mismatch(checkpoint: Checkpoint) -> tuple[str, bool]:
    """Compare the sizes of vocabulary and embedding table.

    Tools pad the table of a word-piece model to a multiple of at most `PADDED` rows; more unused
    rows mean that tokens are missing.

    Returns:
        An error message, empty if the sizes fit, and whether the model can be used.
    """
    tokens, rows = len(checkpoint.vocab), checkpoint.config.vocab_size
    text = f"{checkpoint.source}: the vocabulary has {tokens:,} tokens, the model rows for {rows:,}"
    may_spare = not checkpoint.vocab.WHOLE_WORDS and checkpoint.format != gluonnlp.FORMAT
    if tokens > rows or (tokens < rows and not may_spare):
        return text, False
    if rows - tokens >= PADDED or rows >= 2 * tokens:
        return f"{text}; if the list is cut short, copy it anew, for its words are unknown", True
    return "", True


def _plain(labels: Sequence[str]) -> list[str]:
    return [label.strip().lower() for label in labels]
