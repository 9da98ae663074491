"""Each backend, and the referee, against what the reference implementation computed.

The reference's zips are opened the way a user opens them. All comparisons are absolute unless said
otherwise. The MXNet reference's own per-pair loss is off by up to 3.9e-6 from float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bertnli import parity
from bertnli.backends.interface import Backend

TOLERANCES = {
    "encoded": 1e-5,
    "pooled": 1e-5,
    "mlm_logits": 2e-5,
    "nsp_logits": 1e-5,
    "logits": 1e-5,
    "loss": 1e-5,
}


def our_outputs(nli: Backend, golden: Any, loop: Any) -> dict[str, NDArray]:
    bert, net, batch = golden.bert(nli), golden.net(nli), golden.batch
    inputs = [loop.tensor(array) for array in (batch.token_ids, batch.segments, batch.valid_lens)]
    positions = loop.tensor(golden.values["pred_positions"])
    encoded, mlm_logits, nsp_logits = bert(*inputs, positions)
    with loop.scope():
        pooled = bert.hidden(encoded[:, 0])
    logits = net.logits(batch)
    return {
        "encoded": loop.array(encoded),
        "pooled": loop.array(pooled),
        "mlm_logits": loop.array(mlm_logits),
        "nsp_logits": loop.array(nsp_logits),
        "logits": logits,
        "loss": parity.losses(logits, batch.labels),
    }


def referee_outputs(golden: Any, arrays: dict[str, NDArray], config: Any) -> dict[str, NDArray]:
    batch = golden.batch
    found = parity.forward(
        arrays,
        config,
        batch.token_ids,
        batch.segments,
        batch.valid_lens,
        golden.values["pred_positions"],
    )
    return {
        **vars(found),
        "encoded": found.encoded,
        "loss": parity.losses(found.logits, batch.labels),
    }


def all_arrays(nli: Backend, golden: Any) -> dict[str, NDArray]:
    return {**golden.bert(nli).arrays(), **golden.net(nli).arrays()}


def check_outputs(found: dict[str, NDArray], expected: dict[str, NDArray]) -> None:
    apart = {name: parity.max_abs_difference(found[name], expected[name]) for name in TOLERANCES}
    # Written so that a NaN is a failure.
    wrong = {name: value for name, value in apart.items() if not value <= TOLERANCES[name]}
    assert not wrong, f"further from the reference than {TOLERANCES}: {wrong}"


def test_outputs(backend: Backend, golden: Any, loop: Any) -> None:
    check_outputs(our_outputs(backend, golden, loop), golden.values)


def test_the_referee_outputs(backend: Backend, golden: Any) -> None:
    config = golden.bert(backend).config
    check_outputs(referee_outputs(golden, all_arrays(backend, golden), config), golden.values)


def test_outputs_are_those_of_the_referee(backend: Backend, golden: Any, loop: Any) -> None:
    arrays, config = all_arrays(backend, golden), golden.bert(backend).config
    check_outputs(our_outputs(backend, golden, loop), referee_outputs(golden, arrays, config))


def test_both_zips_hold_the_same_tensors(both: tuple[Backend, Backend], goldens: Any) -> None:
    first, second = (goldens[nli.name].bert(nli).arrays() for nli in both)
    assert all(row.absolute == 0 for row in parity.compare_arrays(first, second))
    assert len(first) == 13 + 16 * 2


def test_valid_lens_of_each_query_and_none(backend: Backend, golden: Any, loop: Any) -> None:
    bert, batch = golden.bert(backend), golden.batch
    size, width = batch.token_ids.shape
    by_query = np.random.default_rng(0).integers(0, width + 1, (size, width))  # 0: no valid key
    for valid_lens in (None, by_query.astype(np.int32), by_query.astype(np.float32)):
        limits = () if valid_lens is None else (loop.tensor(valid_lens),)
        tokens, segments = loop.tensor(batch.token_ids), loop.tensor(batch.segments)
        encoded, mlm_logits, _ = bert(tokens, segments, *limits)
        expected = parity.forward(
            bert.arrays(), bert.config, batch.token_ids, batch.segments, valid_lens
        )
        assert parity.max_abs_difference(loop.array(encoded), expected.encoded) <= 1e-5
        assert mlm_logits is None


def check_gradients(
    found: dict[str, NDArray], expected: dict[str, NDArray], key_bias: float
) -> None:
    """Compare relative to each tensor's largest; a key bias's are rounding and have to be small."""
    rows = parity.compare_arrays(found, expected)
    wrong = [row for row in rows if not parity.is_key_bias(row.name) and not row.relative <= 1e-4]
    assert not wrong, wrong
    keys = {name: np.abs(array).max() for name, array in found.items() if parity.is_key_bias(name)}
    assert len(keys) == 2
    assert max(keys.values()) < key_bias, keys


def test_gradients(backend: Backend, golden: Any, loop: Any) -> None:
    found = loop.gradients(golden.net(backend), golden.batch)
    check_gradients(found, golden.grads, key_bias=2e-6)


def test_gradients_of_the_trainer(backend: Backend, golden: Any) -> None:
    """The trainer's are of the mean loss; the golden ones, and the 2e-6, of the sum."""
    trainer = backend.Trainer(golden.net(backend), devices="cpu")
    found = trainer.gradients(golden.batch, seed=0)
    check_gradients({k: v * len(golden.batch) for k, v in found.items()}, golden.grads, 2e-6)


def test_the_referee_gradients(backend: Backend, golden: Any) -> None:
    net, batch = golden.net(backend), golden.batch
    inputs = (batch.token_ids, batch.segments, batch.valid_lens, batch.labels)
    found = parity.gradients(net.arrays(), net.config, *inputs)
    # In float64 the sum's rounding is some 1e-16.
    check_gradients({k: v * len(batch) for k, v in found.items()}, golden.grads, 1e-14)


@pytest.mark.parametrize("num_heads", [1, 2, 8])
def test_another_number_of_heads_computes_something_else(
    backend: Backend, golden: Any, loop: Any, num_heads: int
) -> None:
    bert, batch = golden.bert(backend, num_heads=num_heads), golden.batch
    inputs = [loop.tensor(array) for array in (batch.token_ids, batch.segments, batch.valid_lens)]
    encoded = loop.array(bert(*inputs)[0])
    arrays = (batch.token_ids, batch.segments, batch.valid_lens)
    expected = parity.forward(bert.arrays(), bert.config, *arrays).encoded
    assert bert.config.num_heads == num_heads
    assert parity.max_abs_difference(encoded, expected) <= 1e-5
    assert parity.max_abs_difference(encoded, golden.values["encoded"]) > 0.1
