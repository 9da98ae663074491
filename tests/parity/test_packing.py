"""The packed path against the plain model: rows, last block for <cls>, sparse updates, bf16."""

import dataclasses
from itertools import accumulate, combinations, pairwise

import numpy as np
import pytest
import small_nets
import torch
from every_setting import ARCHITECTURE, DEBERTA
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import batch_of, plain_heads, with_options

import bertnli
from bertnli import parity
from bertnli.data.packing import pack, rounded_up, split_by_length
from bertnli.errors import BackendError, ConfigError

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def padded(nli, net):
    """Return the oracle: the model that computes every token of every block, also the padding."""
    return lambda inputs: plain_heads(nli).BERTClassifier.forward(net, inputs)


def classifier(nli, config):
    """Make a classifier near its start values, none of which is zero."""
    net = small_nets.classifier(nli, config, seed=1)
    rng = np.random.default_rng(2)
    arrays = {k: a + rng.normal(0, 0.05, a.shape).astype("f4") for k, a in net.arrays().items()}
    net.load_arrays(arrays, "the test")
    return net


@given(LENGTHS, st.integers(1, 400))
def test_each_token_is_packed_once(lengths, max_tokens):
    width = 40
    seen_pairs = []
    for chunk in pack(np.array(lengths), width, max_tokens):
        seen_pairs += chunk.pairs.tolist()
        own = [lengths[pair] or width for pair in chunk.pairs]
        assert len(own) == 1 or sum(own) <= max_tokens + max(own)
        expected = [(pair, i) for pair, n in zip(chunk.pairs, own, strict=True) for i in range(n)]
        places = zip(*np.divmod(chunk.tokens, width), strict=True)
        assert list(places)[: len(expected)] == expected
        assert len(expected) < len(chunk.tokens) == rounded_up(len(expected) + 1)
        firsts = [expected[first] for first in chunk.firsts]
        assert firsts[: len(chunk.pairs)] == [(pair, 0) for pair in chunk.pairs]
        assert len(firsts) == rounded_up(len(chunk.pairs))
        assert np.concatenate([b.pairs for b in chunk.buckets]).tolist() == chunk.pairs.tolist()
        for bucket in chunk.buckets:
            for i, pair in enumerate(bucket.pairs):
                n = lengths[pair] or width
                row = bucket.rows[i]
                assert [expected[r] for r in row[:n]] == [(pair, j) for j in range(n)]
                assert (row[n:] == len(chunk.tokens) - 1).all()
                limit = row.size if bucket.valid_lens is None else bucket.valid_lens[i]
                assert limit == (
                    lengths[pair] if lengths[pair] or bucket.valid_lens is not None else width
                )
    assert sorted(seen_pairs) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 400))
def test_parts_hold_each_pair_once_and_one_chunk_each(lengths, max_tokens):
    batch = batch_of(lengths)
    # Random labels do not tell pairs apart; their places do.
    batch = dataclasses.replace(batch, labels=np.arange(len(lengths), dtype=np.int32))
    seen = []
    for part in split_by_length(batch, max_tokens):
        seen += part.labels.tolist()
        own = [lengths[pair] or 40 for pair in part.labels]
        assert part.token_ids.shape == part.segments.shape == (len(own), max(own))
        assert own == sorted(own, reverse=True)
        for i, pair in enumerate(part.labels):
            assert part.valid_lens[i] == lengths[pair]
            assert (part.token_ids[i] == batch.token_ids[pair, : max(own)]).all()
            assert (part.segments[i] == batch.segments[pair, : max(own)]).all()
        if sum(own) <= max_tokens:
            assert len(pack(part.valid_lens, max(own), max_tokens)) == 1
        else:
            assert len(own) == 1 or max_tokens <= 2 * max(own)
    assert sorted(seen) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.sampled_from([1, 300, 3000]))
def test_buckets_are_the_cheapest(lengths, cost):
    """Against all ways to cut the pairs, longest first."""
    ordered = sorted(lengths, reverse=True)

    def price(bounds):
        parts = [ordered[i:j] for i, j in pairwise(bounds)]
        return sum(len(part) * part[0] ** 2 + cost for part in parts)

    inner = range(1, len(ordered))
    ways = [c for k in range(len(ordered)) for c in combinations(inner, k)]
    cheapest = min(price([0, *way, len(ordered)]) for way in ways)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertnli.data.packing.BUCKET_COST", cost)
        (chunk,) = pack(np.array(lengths), 60, 10**6)
    sizes = [len(bucket.pairs) for bucket in chunk.buckets]
    assert price([0, *accumulate(sizes)]) == cheapest


@given(st.integers(1, 10**7))
def test_rounding_adds_at_most_a_sixteenth(count):
    assert count <= rounded_up(count) <= count * (1 + 1 / 16)
    assert bin(rounded_up(count)).rstrip("0").count("1") <= 5
    assert rounded_up(rounded_up(count)) == rounded_up(count)


@settings(max_examples=25)
@given(lengths=LENGTHS)
@pytest.mark.parametrize("encoder", [{}, DEBERTA], ids=["book", "DeBERTa"])
def test_packed_logits_are_the_padded_ones(both, loops, tiny, encoder, lengths):
    batch = batch_of(lengths)
    logits = []
    for nli in both:
        net, loop = classifier(nli, with_options(tiny, **encoder)), loops[nli.name]
        with loop.scope():
            expected = loop.array(padded(nli, net)([*map(loop.tensor, batch.inputs())]))
        logits.append(net.logits(batch))
        assert parity.max_abs_difference(logits[-1], expected) <= 1e-5
    assert parity.max_abs_difference(*logits) <= 1e-5


@pytest.mark.parametrize("lengths", [[7], [40] * 3, [0, 5, 0, 40], [*range(1, 41)] * 8])
@pytest.mark.parametrize("encoder", [{}, DEBERTA], ids=["book", "DeBERTa"])
def test_packed_gradients_are_the_padded_ones(backend, loop, tiny, encoder, lengths):
    """Up to more tokens than a chunk holds; also in the user's loop after a trainer's step."""
    net, batch = classifier(backend, with_options(tiny, **encoder)), batch_of(lengths)
    expected = loop.gradients(net, batch, padded(backend, net))
    first = loop.gradients(net, batch)
    mean = backend.Trainer(net, devices="cpu", micro_batch_size=50).gradients(batch, 0)
    again = loop.gradients(net, batch)
    for name, gradient in expected.items():
        for packed in (first[name], mean[name] * len(batch), again[name]):
            assert np.abs(packed - gradient).max() <= 1e-5 * max(1, np.abs(gradient).max()), name


def test_packed_dropout_has_the_mean_of_none(backend, tiny):
    """To first order in a small p: each chunk and layer draws its own mask."""
    config = with_options(tiny, dropout=0.02)
    batch = batch_of([9, 12, 30, 4] * 4)
    plain = backend.Trainer(classifier(backend, tiny), devices="cpu").gradients(batch, 0)
    trainer = backend.Trainer(classifier(backend, config), devices="cpu")
    drawn = [trainer.gradients(batch, seed)["output.weight"] for seed in range(60)]
    mean, error = np.mean(drawn, 0), np.std(drawn, 0) / np.sqrt(len(drawn))
    assert error.min() > 0
    assert (np.abs(mean - plain["output.weight"]) / error).mean() < 1.5


@pytest.mark.parametrize("encoder", [{}, DEBERTA], ids=["book", "DeBERTa"])
def test_dropped_weights_do_not_sum_to_one(backend, loop, tiny, encoder, monkeypatch):
    """The last block projects means: its value bias must count as often as the weights do."""
    config = with_options(tiny, dropout=0.1, **encoder)
    net, batch = classifier(backend, config), batch_of([9, 12, 30, 4] * 4)
    loop.half_dropout(monkeypatch)
    packed = loop.gradients(net, batch)
    for name, gradient in loop.gradients(net, batch, padded(backend, net)).items():
        assert parity.max_abs_difference(packed[name], gradient) <= 1e-5, name


def test_steps_on_changing_rows_are_adam_s(backend, tiny):
    """Rows that a batch does not use go on moving with their momentum."""
    net = classifier(backend, tiny)
    trainer = backend.Trainer(net, lr=1e-3, devices="cpu")
    name = "encoder.token_embedding.weight"
    expected = torch.nn.Parameter(torch.tensor(net.arrays()[name], dtype=torch.float64))
    optimizer = torch.optim.Adam([expected], lr=1e-3)
    for seed, lengths in enumerate([[5, 7], [30, 2, 2], [5], [40] * 5, [5, 7]]):
        batch = batch_of(lengths, seed=seed % 4)
        expected.grad = torch.tensor(trainer.gradients(batch, 0)[name], dtype=torch.float64)
        trainer.train_step(batch, 1e-3, 0).read()
        optimizer.step()
        large = (expected.grad.abs() > 1e-5).numpy()
        apart = np.abs(net.arrays()[name] - expected.detach().numpy())
        assert large.any()
        assert apart[large].max() <= 1e-5
        untouched = (optimizer.state[expected]["exp_avg"] == 0).numpy()
        assert apart[untouched].max() == 0


def test_precision(backend, tiny):
    net = classifier(backend, tiny)
    trainer = backend.Trainer(net, devices="cpu", precision="auto")
    assert net.precision in ("fp32", "bf16")
    reason = trainer.engine.precision_reason
    assert "bf16" in reason or "bfloat16" in reason
    with pytest.raises(ConfigError, match="fp32"):
        backend.Trainer(net, devices="cpu", precision="half")
    if backend.name == "mxnet":
        with pytest.raises(BackendError, match=r"MXNet 1\.9\.1 has no bfloat16"):
            backend.Trainer(net, devices="cpu", precision="bf16")


@pytest.mark.parametrize(
    "encoder", [{}, ARCHITECTURE, DEBERTA], ids=["book", "families", "DeBERTa"]
)
def test_bf16_on_torch(tiny, encoder):
    """Results agree to the 8 bits of bfloat16; weights and gradients stay float32."""
    nli = bertnli.get_backend("torch")
    net, batch = classifier(nli, with_options(tiny, **encoder)), batch_of([9, 12, 30, 4] * 4)
    exact = net.logits(batch)
    fp32 = nli.Trainer(net, devices="cpu").gradients(batch, 0)
    trainer = nli.Trainer(net, devices="cpu", precision="bf16")
    rough = net.logits(batch)
    assert 1e-6 < parity.max_abs_difference(rough, exact) < 0.05
    assert rough.dtype == np.float32
    bf16 = trainer.gradients(batch, 0)
    for name, gradient in fp32.items():
        assert bf16[name].dtype == np.float32
        if not parity.is_key_bias(name):  # by norm, for a unit of ReLU may be on its other side
            apart = np.linalg.norm(bf16[name] - gradient)
            assert apart < 0.1 * np.linalg.norm(gradient), name
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    history = [trainer.train_step(batch, 1e-3, 0).read()[0] for _ in range(40)]
    assert history[-1] < 0.1 * history[0]
