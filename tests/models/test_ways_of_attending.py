"""A way of attending is one class and one line of a table: here the mean of the source, which trains and searches."""

import copy

import numpy as np
import pytest
from tiny_nmt import batch

from scratchnmt import NMT
from scratchnmt.models.attention import ATTENTIONS
from scratchnmt.ops.rows import by_sentence
from scratchnmt.optim import Adam
from scratchnmt.selfcheck import check_model


class MeanAttention:
    """context = the mean of the source's states, whatever is asked."""

    def __init__(self, config, params, h_enc, mask, kernels):
        self.share = mask / mask.sum(axis=0)  # (S, B)
        self.mean = (h_enc * self.share[:, :, None]).sum(axis=0)  # (B, M)

    @staticmethod
    def shapes(config):
        return {}

    @staticmethod
    def context_size(config):
        return config.memory_size

    @staticmethod
    def recordable(config):
        return True

    def select(self, sentences):
        other = copy.copy(self)
        other.share, other.mean = self.share[:, sentences], self.mean[sentences]
        return other

    def step(self, h, t):
        return np.broadcast_to(self.mean[: len(h), None], (*h.shape[:2], self.mean.shape[1])), h.shape

    def map(self, t, cache):
        n, Q, _ = cache
        return np.broadcast_to(self.share.T[:n, None], (n, Q, len(self.share)))

    def rows(self, N, dtype):
        return None

    def training_step(self, rows, h, t, now, context):
        context[...] = self.mean[: len(h)]

    def gradient_rows(self, rows, dtype):
        return None

    def step_backward(self, rows, drows, h, t, now, dcontext, dh):
        pass

    def backward(self, rows, drows, h, dcontext, packing, grads):
        dmean = by_sentence(dcontext, packing).sum(axis=1)
        return self.share[:, :, None] * dmean


@pytest.fixture
def mean(monkeypatch):
    """Further choices of a model that attends so."""
    monkeypatch.setitem(ATTENTIONS, "mean", MeanAttention)
    return {"attention": "mean", "dtype": "float64", "init": "glorot"}


@pytest.mark.parametrize("choices", [
    {}, {"feed": "context", "readout": "state"}, {"layers": 2}, {"query": "previous"},
], ids=str)
def test_its_gradients_are_right(mean, choices):
    report = check_model(NMT(11, 12, 5, 4, **mean, **choices), *batch())
    assert report.ok and not [name for name in NMT(11, 12, 5, 4, **mean).params if name.startswith("attention")]


def test_it_trains_and_searches(mean):
    model = NMT(11, 12, 8, 8, **mean)
    optimizer, losses = Adam(model.params, 0.02), []
    for _ in range(150):
        loss, cache = model.forward(*batch())
        optimizer.step(model.backward(cache))
        losses.append(float(loss))
    assert losses[-1] < 0.1 * losses[0]
    src, lengths, tgt = batch()
    for b in range(4):
        found = model.beam_search(src[: lengths[b], b])[0]
        assert found.value == [word for word in tgt[1:, b] if word > 2]
        forced = model.token_log_probs(src[: lengths[b], b : b + 1], lengths[b : b + 1],
                                       np.array([1, *found.value, 2])[:, None])
        assert found.score == pytest.approx(forced.sum(), rel=1e-12)


def test_a_way_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="attention is 'mean', expected one of global, local-m, local-p, multi-head"):
        NMT(11, 12, 5, 4, attention="mean")
