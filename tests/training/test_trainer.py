"""The trainer on each backend: what it learns and writes, labels, casts, refusals."""

import json

import numpy as np
import pytest
from small_runs import assert_same_arrays

import bertnli
from bertnli.data.dataset import build_vocab
from bertnli.errors import ConfigError, DataError

NOUNS, VERBS, PLACES = ("man", "dog", "girl"), ("sits", "runs", "sleeps"), ("park", "house")


def corpus(label_names=bertnli.LABELS):
    """Make pairs whose class shows in a word of the hypothesis."""
    premises = [f"a {n} {v} in the {p} ." for n in NOUNS for v in VERBS for p in PLACES]
    hypotheses = {
        "entailment": premises,
        "contradiction": ["nobody " + premise[2:] for premise in premises],
        "neutral": [premise[:-1] + "happily ." for premise in premises],
    }
    labels = [label_names.index(name) for name in hypotheses for _ in premises]
    texts = [text for kind in hypotheses.values() for text in kind]
    return bertnli.Corpus(premises * 3, texts, labels, tokenized=True, label_names=label_names)


VOCAB = build_vocab(corpus(), 1)
PAIR = ("A man sits in the park.", "Nobody runs.")


def new_bert(nli):
    return nli.BERTModel(len(VOCAB), 32, 48, 2, 1, 0.0, 32, vocab=VOCAB)


def new_net(nli):
    return nli.BERTClassifier(new_bert(nli))


def dataset(nli, data=None, max_len=24, vocab=VOCAB):
    return nli.SNLIBERTDataset(data or corpus(), max_len, vocab, verbose=False)


def fit(nli, net, epochs=2, **options):
    data, trainer = dataset(nli), nli.Trainer(net, lr=2e-3, devices="cpu")
    return trainer.fit(data, data, epochs, 16, progress=False, **options)


def test_a_run_learns_and_writes_its_folder(backend, tmp_path):
    net = new_net(backend)
    history = fit(backend, net, 16, output=tmp_path)
    assert history.epochs[-1].dev_accuracy == 1.0
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss / 2
    assert len(history.step_losses) == 16 * 4
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 17))
    assert (tmp_path / "curve.png").stat().st_size > 1000
    last = bertnli.load(tmp_path / "last", backend.name, devices="cpu")
    assert_same_arrays(last.arrays(), net.arrays())
    best = bertnli.load(tmp_path, backend.name, devices="cpu")
    score = backend.Trainer(best, devices="cpu").evaluate(dataset(backend))
    assert score.accuracy == history.best.dev_accuracy
    # Labels are matched by name.
    trainer = backend.Trainer(net, devices="cpu")
    other = corpus(("neutral", "contradiction", "entailment"))
    assert trainer.evaluate(dataset(backend, other)).accuracy == 1.0
    wrong = bertnli.Corpus(["a"], ["b"], [0], tokenized=True, label_names=("yes", "no"))
    with pytest.raises(DataError, match="yes"):
        trainer.evaluate(dataset(backend, wrong))


def test_predictions_are_in_the_order_of_the_pairs(backend):
    net = new_net(backend)
    pairs = [("A man " + "sits " * n + ".", "A dog runs.") for n in (9, 1, 5, 3, 7)]
    for pair, prediction in zip(pairs, net.predict(pairs, batch_size=2), strict=True):
        (alone,) = net.predict([pair])
        assert prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert net.predict([]) == []
    for wrong in ("ab", [("one",)], [("a", " ")], [("a", None)], ["ab"]):
        with pytest.raises(DataError, match="pair"):
            net.predict(wrong)


def test_wrong_data_are_refused(backend):
    trainer = backend.Trainer(new_net(backend), devices="cpu")
    empty = bertnli.Corpus([], [], [], tokenized=True)
    unlabelled = bertnli.Corpus.from_pairs([("A man sits.", "A man runs.")])
    other = build_vocab(bertnli.Corpus(["x"], ["y"], [0], tokenized=True), 1)
    long = bertnli.Corpus(["a " * 50], ["b"], [0], tokenized=True)
    for data, error, message in (
        (dataset(backend, empty), DataError, "empty"),
        (dataset(backend, unlabelled), DataError, "label"),
        (dataset(backend, vocab=other), DataError, "another vocabulary"),
        (dataset(backend, long, 64), ConfigError, "32 positions"),
    ):
        with pytest.raises(error, match=message):
            trainer.evaluate(data)
    with pytest.raises(ConfigError, match="no vocabulary"):
        bare = backend.BERTModel(len(VOCAB), 32, 48, 2, 1, 0.0, 32)
        backend.BERTClassifier(bare).predict([("a", "b")])
    with pytest.raises(ConfigError, match="lr"):
        backend.Trainer(trainer.net, lr=-1)


def cast(net, how):
    """Cast a net, or a part of it, as a user of its framework does."""
    getattr(net, how)() if hasattr(net, how) else net.cast(how)


@pytest.mark.parametrize(
    ("name", "how", "part"),
    [
        *(("torch", how, "net") for how in ("half", "bfloat16", "double")),
        *(("mxnet", how, "net") for how in ("float16", "float64")),
        *(("torch", "half", part) for part in ("encoder", "output")),
        *(("mxnet", "float16", part) for part in ("encoder", "output")),
    ],
)
def test_a_net_that_was_cast_by_hand_is_refused(name, how, part, tmp_path):
    """The error says what to set instead. Such a net can be saved, in float32."""
    backend = bertnli.get_backend(name)
    net, batch = new_net(backend), dataset(backend).batch(np.arange(4))
    expected = {n: a.astype("f2") for n, a in net.arrays().items()}
    cast(net if part == "net" else getattr(net, part), how)
    for use in (
        lambda: net.predict([PAIR]),
        lambda: net.logits(batch),
        lambda: net.explain(*PAIR),
        lambda: net.activations(batch),
        lambda: backend.Trainer(net, devices="cpu"),
    ):
        with pytest.raises(ConfigError, match=r"weights are \w+, .*float32.*net\.precision"):
            use()
    net.save(tmp_path / "saved")
    for tensor, array in bertnli.load(tmp_path / "saved", name).arrays().items():
        assert array.dtype == np.float32
        if how == "float16" and part == "net":
            assert np.array_equal(array, expected[tensor]), tensor
    cast(net, "float" if name == "torch" else "float32")
    assert len(net.predict([PAIR])) == 1


def test_a_pretrained_model_that_was_cast_by_hand_is_refused(backend, loop):
    bert = new_bert(backend)
    cast(bert, {"torch": "half", "mxnet": "float16"}[backend.name])
    with loop.scope():
        ids = loop.tensor(np.zeros((1, 4), np.int32))
        with pytest.raises(ConfigError, match=r"net\.precision"):
            bert(ids, ids)
    with pytest.raises(ConfigError, match=r"net\.precision"):
        backend.Trainer(backend.BERTForPretraining(bert), devices="cpu")


@pytest.mark.parametrize("name", ["float64", "float16", "bfloat16"])
def test_torch_s_default_dtype_and_random_state(name):
    """The default dtype changes nothing, and a run leaves the user's random state alone."""
    import torch

    nli = bertnli.get_backend("torch")

    def run():
        torch.manual_seed(5)
        net = new_net(nli)
        losses = fit(nli, net, 1).step_losses
        results = losses, net.predict([PAIR]), net.explain(*PAIR).saliency.tolist()
        return results, torch.random.get_rng_state().tolist()

    torch.manual_seed(5)
    state = torch.random.get_rng_state().tolist()
    expected = run()
    assert expected[1] == state
    torch.set_default_dtype(getattr(torch, name))
    try:
        assert run() == expected
    finally:
        torch.set_default_dtype(torch.float32)
