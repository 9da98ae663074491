"""BERTs with other activations, normalised embeddings, epsilons, against the NumPy referee."""

import numpy as np
import pytest
from small_nets import batch_of, random_classifier

from bertnli import parity
from bertnli.bert.config import BERTConfig

SIZES = (50, 32, 64, 4, 3, 0.0, 20)
KINDS = {
    "Devlin et al.": BERTConfig(*SIZES, "gelu", True, 1e-12),
    "gelu alone": BERTConfig(*SIZES, "gelu", False, 1e-5),
    "tanh": BERTConfig(*SIZES, "gelu_tanh", True, 1e-6),
    "norm alone": BERTConfig(*SIZES, "relu", True, 1e-3),
    "RoBERTa": BERTConfig(*SIZES, "gelu", True, 1e-5, pair_segments=False, first_position=2),
    "one segment": BERTConfig(*SIZES, "gelu", True, 1e-5, num_segments=1, pair_segments=False),
    "DistilBERT": BERTConfig(*SIZES, "gelu", True, 1e-12, num_segments=0, pooler_activation="relu"),
    "ELECTRA": BERTConfig(*SIZES, "gelu", True, embedding_size=12, pooler_activation="gelu"),
    "MPNet": BERTConfig(
        *SIZES, "gelu", True, num_segments=0, first_position=2, relative_buckets=32
    ),
    "DeBERTa": BERTConfig(*SIZES, "gelu", True, 1e-7, num_segments=0, position_buckets=6),
    "DeBERTa without norm": BERTConfig(*SIZES, "gelu", position_buckets=32),
    "all without norm": BERTConfig(
        *SIZES, "gelu", embedding_size=12, first_position=1, relative_buckets=32
    ),
}
BATCH = batch_of([20, 3, 1, 7, 12, 7], 20, vocab_size=50)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_computes_what_the_referee_does(backend, loop, kind):
    config, net, inputs = KINDS[kind], random_classifier(backend, KINDS[kind]), BATCH.inputs()
    arrays = net.arrays()
    expected = parity.forward(arrays, config, *inputs)
    with loop.scope():
        encoded = loop.array(net.encoder(*(loop.tensor(array) for array in inputs)))
    assert parity.max_abs_difference(encoded, expected.encoded) <= 1e-5
    assert parity.max_abs_difference(net.logits(BATCH), expected.logits) <= 1e-5
    computed = backend.Trainer(net, devices="cpu").gradients(BATCH, 0)
    gradients = parity.gradients(arrays, config, *inputs, BATCH.labels)
    assert set(computed) == set(gradients)
    for name, gradient in gradients.items():
        apart = parity.max_abs_difference(computed[name], gradient)
        assert apart <= 2e-5 * max(1.0, np.abs(gradient).max()), name


def test_dropout_follows_normalised_embeddings(backend, loop):
    bert, normalised = (
        loop.dropout_layers(backend.BERTModel(*SIZES, embedding_norm=norm).encoder)
        for norm in (False, True)
    )
    assert normalised - bert == {"dropout"}
