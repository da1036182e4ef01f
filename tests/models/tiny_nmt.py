"""A batch that holds every difficulty, and its parts: for the tests of the model and of its steps."""

import numpy as np
import pytest

from scratchnmt.ops.cross_entropy import PAD
from scratchnmt.selfcheck import MODELS, example_batch

by_configuration = pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)

SRC_LENGTHS, TGT_LENGTHS = np.array([3, 5, 1, 4]), np.array([4, 1, 5, 2])  # in no order; one word; only </s>


def batch():
    """src (5, 4), src_lengths, tgt (6, 4)."""
    return example_batch(SRC_LENGTHS, TGT_LENGTHS)


def alone(b):
    """Sentence b of the batch without padding, as a batch of one."""
    src, src_lengths, tgt = batch()
    return src[: src_lengths[b], b : b + 1], src_lengths[b : b + 1], tgt[: TGT_LENGTHS[b] + 1, b : b + 1]


def padded(src_rows, tgt_rows):
    """The batch with so many more rows of padding."""
    src, src_lengths, tgt = batch()
    more = lambda ids, rows: np.pad(ids, [(0, rows), (0, 0)], constant_values=PAD)
    return more(src, src_rows), src_lengths, more(tgt, tgt_rows)
