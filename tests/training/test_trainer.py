"""The trainer on each backend: what it learns and writes, labels, casts, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli.backends.interface import Backend
from bertnli.data.dataset import build_vocab
from bertnli.errors import BackendError, ConfigError, DataError

PREMISE = "a {} {} in the {} ."
NOUNS, VERBS, PLACES = ("man", "dog", "girl"), ("sits", "runs", "sleeps"), ("park", "house")


def corpus(label_names: tuple[str, ...] = bertnli.LABELS) -> bertnli.Corpus:
    """Pairs whose class shows in a word of the hypothesis."""
    rows = []
    for noun in NOUNS:
        for verb in VERBS:
            for place in PLACES:
                premise = PREMISE.format(noun, verb, place)
                rows.append((premise, premise, "entailment"))
                rows.append((premise, "nobody " + premise[2:], "contradiction"))
                rows.append((premise, premise[:-1] + "happily .", "neutral"))
    labels = [label_names.index(label) for _, _, label in rows]
    return bertnli.Corpus(
        [a for a, _, _ in rows],
        [b for _, b, _ in rows],
        labels,
        tokenized=True,
        label_names=label_names,
    )


VOCAB = build_vocab(corpus(), 1)
PAIR = ("A man sits in the park.", "Nobody runs.")


def new_net(nli: Backend, **options: Any) -> Any:
    bert = nli.BERTModel(len(VOCAB), 32, 48, 2, 1, 0.0, 32, vocab=VOCAB)
    return nli.BERTClassifier(bert, **options)


def dataset(nli: Backend, **options: Any) -> Any:
    return nli.SNLIBERTDataset(corpus(**options), 24, VOCAB, verbose=False)


def fit(nli: Backend, net: Any, epochs: int = 2, **options: Any) -> bertnli.History:
    data = dataset(nli)
    return nli.Trainer(net, lr=2e-3, devices="cpu").fit(
        data, data, epochs, 16, progress=False, **options
    )


def test_learns_and_writes_its_run(backend: Backend, tmp_path: Path) -> None:
    net = new_net(backend)
    history = fit(backend, net, 12, output=tmp_path / "run")
    assert history.epochs[-1].dev_accuracy == 1.0
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss / 2
    assert len(history.step_losses) == 12 * 4
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))
    assert (tmp_path / "run" / "curve.png").stat().st_size > 1000
    last = bertnli.load(tmp_path / "run" / "last", backend.name, devices="cpu")
    for name, array in net.arrays().items():
        np.testing.assert_array_equal(last.arrays()[name], array)
    best = bertnli.load(tmp_path / "run", backend.name, devices="cpu")
    score = backend.Trainer(best, devices="cpu").evaluate(dataset(backend))
    assert score.accuracy == history.best.dev_accuracy


def test_labels_are_matched_by_name(backend: Backend) -> None:
    net = new_net(backend)
    fit(backend, net, 12)
    other = ("neutral", "contradiction", "entailment")
    trainer = backend.Trainer(net, devices="cpu")
    assert trainer.evaluate(dataset(backend, label_names=other)).accuracy == 1.0
    with pytest.raises(DataError, match="yes"):
        wrong = bertnli.Corpus(["a"], ["b"], [0], tokenized=True, label_names=("yes", "no"))
        trainer.evaluate(backend.SNLIBERTDataset(wrong, 24, VOCAB, verbose=False))


def test_predict_keeps_the_order(backend: Backend) -> None:
    net = new_net(backend)
    pairs = [("A man " + "sits " * n + ".", "A dog runs.") for n in (9, 1, 5, 3, 7)]
    together = net.predict(pairs, batch_size=2)
    for pair, prediction in zip(pairs, together, strict=True):
        (alone,) = net.predict([pair])
        assert prediction.label == alone.label
        assert prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert tuple(prediction.probabilities) == bertnli.LABELS
    assert net.predict([]) == []


@pytest.mark.parametrize("pairs", ["ab", [("one",)], [("a", " ")], [("a", None)], ["ab"]])
def test_predict_refuses_what_is_no_pair(backend: Backend, pairs: Any) -> None:
    with pytest.raises(DataError, match="pair"):
        new_net(backend).predict(pairs)


def test_refusals(backend: Backend) -> None:
    net = new_net(backend)
    with pytest.raises(ConfigError, match="lr"):
        backend.Trainer(net, lr=-1)
    with pytest.raises(BackendError, match="tpu"):
        backend.Trainer(net, devices="tpu")
    with pytest.raises(BackendError, match="gpu:7"):
        backend.Trainer(net, devices="gpu:7")
    with pytest.raises(BackendError, match="empty"):
        backend.Trainer(net, devices=[])
    trainer = backend.Trainer(net, devices="cpu")
    empty = bertnli.Corpus([], [], [], tokenized=True)
    with pytest.raises(DataError, match="empty"):
        trainer.evaluate(backend.SNLIBERTDataset(empty, 24, VOCAB, verbose=False))
    unlabelled = bertnli.Corpus.from_pairs([("A man sits.", "A man runs.")])
    with pytest.raises(DataError, match="label"):
        trainer.evaluate(backend.SNLIBERTDataset(unlabelled, 24, VOCAB, verbose=False))
    stranger = build_vocab(bertnli.Corpus(["x"], ["y"], [0], tokenized=True), 1)
    with pytest.raises(DataError, match="another vocabulary"):
        trainer.evaluate(backend.SNLIBERTDataset(corpus(), 24, stranger, verbose=False))
    long = bertnli.Corpus(["a " * 50], ["b"], [0], tokenized=True)
    with pytest.raises(ConfigError, match="32 positions"):
        trainer.evaluate(backend.SNLIBERTDataset(long, 64, VOCAB, verbose=False))
    with pytest.raises(ConfigError, match="no vocabulary"):
        bare = backend.BERTModel(len(VOCAB), 32, 48, 2, 1, 0.0, 32)
        backend.BERTClassifier(bare).predict([("a", "b")])


CASTS = {
    "torch": ("half", "bfloat16", "double"),
    "mxnet": ("float16", "float64"),
}


def cast(net: Any, backend: Backend, how: str) -> None:
    """Cast a net as the user of its framework does."""
    if backend.name == "torch":
        getattr(net, how)()
    else:
        net.cast(how)


@pytest.mark.parametrize(
    ("name", "how", "part"),
    [
        *((backend, how, "net") for backend in CASTS for how in CASTS[backend]),
        *(
            (backend, CASTS[backend][0], part)
            for backend in CASTS
            for part in ("encoder", "output")
        ),
    ],
)
def test_a_net_cast_by_hand_says_what_to_set(
    name: str, how: str, part: str, tmp_path: Path
) -> None:
    backend = bertnli.get_backend(name)
    net = new_net(backend)
    batch = dataset(backend).batch(np.arange(4))
    expected = {n: a.astype("f2") for n, a in net.arrays().items()} if how == "float16" else None
    cast(net if part == "net" else getattr(net, part), backend, how)
    for use in (
        lambda: net.predict([PAIR]),
        lambda: net.logits(batch),
        lambda: net.explain(*PAIR),
        lambda: net.activations(batch),
        lambda: backend.Trainer(net, devices="cpu"),
    ):
        with pytest.raises(ConfigError, match=r"weights are \w+, .*float32.*net\.precision"):
            use()
    net.save(tmp_path / "saved")  # in float32
    again = bertnli.load(tmp_path / "saved", name)
    for tensor, array in again.arrays().items():
        assert array.dtype == np.float32
        if expected is not None and part == "net":
            assert np.array_equal(array, expected[tensor]), tensor
    cast(net, backend, "float" if name == "torch" else "float32")
    assert len(net.predict([PAIR])) == 1


def test_a_pretrained_model_cast_by_hand_says_so_too(backend: Backend, loop: Any) -> None:
    bert = backend.BERTModel(len(VOCAB), 32, 48, 2, 1, 0.0, 32, vocab=VOCAB)
    cast(bert, backend, {"torch": "half", "mxnet": "float16"}[backend.name])
    with loop.scope():
        ids = loop.tensor(np.zeros((1, 4), np.int32))
        with pytest.raises(ConfigError, match=r"net\.precision"):
            bert(ids, ids)
    with pytest.raises(ConfigError, match=r"net\.precision"):
        backend.Trainer(backend.BERTForPretraining(bert), devices="cpu")


@pytest.mark.parametrize("name", ["float64", "float16", "bfloat16"])
def test_the_user_s_default_dtype_changes_nothing(name: str) -> None:
    import torch

    nli = bertnli.get_backend("torch")

    def run() -> tuple[Any, Any, Any]:
        net = new_net(nli)
        losses = fit(nli, net, 1).step_losses
        return losses, net.predict([PAIR]), net.explain(*PAIR).saliency.tolist()

    expected = run()
    torch.set_default_dtype(getattr(torch, name))
    try:
        assert run() == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_users_own_random_state_is_left_alone_by_torch() -> None:
    import torch

    nli = bertnli.get_backend("torch")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(nli, new_net(nli), 1)
    assert torch.equal(torch.rand(3), expected)
