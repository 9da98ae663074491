"""Each backend, and the referee, against what the reference implementation computed.

Differences are absolute unless said otherwise. The MXNet reference's own loss of a pair is off by
up to 3.9e-6 from float64.
"""

import numpy as np
import pytest

from bertnli import parity

TOLERANCES = {
    "encoded": 1e-5,
    "pooled": 1e-5,
    "mlm_logits": 2e-5,
    "nsp_logits": 1e-5,
    "logits": 1e-5,
    "loss": 1e-5,
}


def backend_outputs(nli, golden, loop):
    bert, batch = golden.bert(nli), golden.batch
    inputs = [loop.tensor(array) for array in (*batch.inputs(), golden.values["pred_positions"])]
    encoded, mlm_logits, nsp_logits = bert(*inputs)
    with loop.scope():
        pooled = bert.hidden(encoded[:, 0])
    logits = golden.net(nli).logits(batch)
    tensors = {"encoded": encoded, "pooled": pooled, "mlm_logits": mlm_logits}
    outputs = {k: loop.array(v) for k, v in {**tensors, "nsp_logits": nsp_logits}.items()}
    return {**outputs, "logits": logits, "loss": parity.losses(logits, batch.labels)}


def referee_outputs(nli, golden):
    bert, net, batch = golden.bert(nli), golden.net(nli), golden.batch
    arrays = {**bert.arrays(), **net.arrays()}
    inputs = (*batch.inputs(), golden.values["pred_positions"])
    output = parity.forward(arrays, bert.config, *inputs)
    losses = parity.losses(output.logits, batch.labels)
    return {**vars(output), "encoded": output.encoded, "loss": losses}


def check_outputs(outputs, expected):
    apart = {name: parity.max_abs_difference(outputs[name], expected[name]) for name in TOLERANCES}
    wrong = {name: x for name, x in apart.items() if not x <= TOLERANCES[name]}  # also NaN
    assert not wrong, f"further from the reference than {TOLERANCES}: {wrong}"


def test_outputs(backend, golden, loop):
    outputs, referee = backend_outputs(backend, golden, loop), referee_outputs(backend, golden)
    check_outputs(outputs, golden.values)
    check_outputs(referee, golden.values)
    check_outputs(outputs, referee)


def test_both_zips_hold_the_same_tensors(both, goldens):
    first, second = (goldens[nli.name].bert(nli).arrays() for nli in both)
    assert all(row.absolute == 0 for row in parity.compare_arrays(first, second))
    assert len(first) == 13 + 16 * 2


def test_valid_lens_of_each_query_and_none(backend, golden, loop):
    bert, batch = golden.bert(backend), golden.batch
    size, width = batch.token_ids.shape
    by_query = np.random.default_rng(0).integers(0, width + 1, (size, width))  # 0: no valid key
    for valid_lens in (None, by_query.astype(np.int32), by_query.astype(np.float32)):
        inputs = (batch.token_ids, batch.segments, valid_lens)
        tensors = [loop.tensor(array) for array in inputs if array is not None]
        encoded, mlm_logits, _ = bert(*tensors)
        expected = parity.forward(bert.arrays(), bert.config, *inputs)
        assert parity.max_abs_difference(loop.array(encoded), expected.encoded) <= 1e-5
        assert mlm_logits is None


def check_gradients(gradients, expected, key_bias):
    """Compare relative to each tensor's largest; a key bias's gradient is rounding, and small."""
    rows = parity.compare_arrays(gradients, expected)
    wrong = [row for row in rows if not parity.is_key_bias(row.name) and not row.relative <= 1e-4]
    assert not wrong, wrong
    keys = [np.abs(array).max() for name, array in gradients.items() if parity.is_key_bias(name)]
    assert len(keys) == 2 and max(keys) < key_bias, keys


def test_gradients(backend, golden, loop):
    """The golden gradients are of the sum over pairs; the trainer's are of the mean."""
    net, batch = golden.net(backend), golden.batch
    check_gradients(loop.gradients(net, batch), golden.grads, key_bias=2e-6)
    means = backend.Trainer(net, devices="cpu").gradients(batch, seed=0)
    check_gradients({k: v * len(batch) for k, v in means.items()}, golden.grads, 2e-6)
    means = parity.gradients(net.arrays(), net.config, *batch.inputs(), batch.labels)
    # In float64 the sum's rounding is some 1e-16.
    check_gradients({k: v * len(batch) for k, v in means.items()}, golden.grads, 1e-14)


@pytest.mark.parametrize("num_heads", [1, 2, 8])
def test_another_number_of_heads_computes_something_else(backend, golden, loop, num_heads):
    bert, inputs = golden.bert(backend, num_heads=num_heads), golden.batch.inputs()
    encoded = loop.array(bert(*map(loop.tensor, inputs))[0])
    expected = parity.forward(bert.arrays(), bert.config, *inputs).encoded
    assert bert.config.num_heads == num_heads
    assert parity.max_abs_difference(encoded, expected) <= 1e-5
    assert parity.max_abs_difference(encoded, golden.values["encoded"]) > 0.1
