"""The ranges of distances against transformers' own code."""

import numpy as np
import pytest
import torch
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta

from bertnli.bert.positions import distance_ranges


@pytest.mark.parametrize(
    ("buckets", "max_len"),
    [(256, 512), (256, 4096), (8, 64), (7, 64), (2, 9), (256, 100), (64, 33)],
)
def test_deberta_s_ranges(buckets, max_len):
    steps = np.arange(max_len) - np.arange(max_len)[:, None]  # of a key from a query
    tokens = torch.zeros(1, max_len, 1)
    theirs = deberta.build_relative_position(tokens, tokens, buckets, max_len)[0].numpy()
    of_key, of_query = distance_ranges(buckets, max_len, max_len)
    assert (of_key[steps + max_len] == theirs + buckets).all()
    assert (of_query[-steps + max_len] == theirs + buckets).all()
    for width in (1, 5, max_len):
        part = distance_ranges(buckets, max_len, width)
        assert part.shape == (2, 2 * width)
        middle = slice(max_len - width + 1, max_len + width)
        assert (part[:, 1:] == np.stack((of_key, of_query))[:, middle]).all()
        assert part.min() >= 1
        assert part.max() < 2 * buckets
