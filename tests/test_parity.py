"""Loss, every gradient and the searches against an independent PyTorch model, in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs torch (pip install '.[peers]')")

from torch_loop import beam_search  # noqa: E402
from torch_model import TorchNMT  # noqa: E402
from torch_weights import copy_weights, gradients, views  # noqa: E402

from scratchnmt.models.config import PRESETS  # noqa: E402
from scratchnmt.models.nmt import NMT  # noqa: E402

AGREEMENT = 1e-10  # of a tensor's largest element: float64, same mathematics, other order of sums
SIZES = dict(src_vocab_size=13, tgt_vocab_size=11, embed_size=6, hidden_size=6)
CONFIGURATIONS = {
    **{f"{score}, feeds {feed}": dict(score=score, feed=feed)
       for score in ("dot", "general", "concat", "location") for feed in ("output", "context", "none")},
    **{f"{attention}, {score}, feeds {feed}": dict(attention=attention, score=score, feed=feed, window=2)
       for attention in ("local-m", "local-p")
       for score, feed in (("dot", "context"), ("general", "output"), ("concat", "none"), ("location", "output"))},
    **{f"the previous state asks, {score}, feeds {feed}": dict(query="previous", score=score, feed=feed)
       for score, feed in (("general", "output"), ("concat", "context"), ("dot", "start"))},
    "Bahdanau's, two layers": PRESETS["bahdanau"] | dict(layers=2),
    "local-p, the previous state asks": dict(attention="local-p", window=1, query="previous"),
    **{f"multi-head, feeds {feed}": dict(attention="multi-head", heads=2, feed=feed)
       for feed in ("output", "context")},
    "multi-head, one direction, the previous state asks":
        dict(attention="multi-head", heads=3, bidirectional=False, query="previous", feed="context"),
    "two layers": dict(layers=2),
    "three layers, context, concat": dict(layers=3, feed="context", score="concat"),
    "tied": dict(tie_embeddings=True),
    "smoothed": dict(label_smoothing=0.1),
    "tied, smoothed, two layers": dict(tie_embeddings=True, label_smoothing=0.2, layers=2),
    "embedding wider than hidden": dict(embed_size=7),
    "one direction": dict(bidirectional=False),
    "context-feeding": PRESETS["context-feeding"],
    "Sutskever's": PRESETS["sutskever"] | dict(layers=2),
    "Cho's": PRESETS["cho"],
    "no attention, feeds output": dict(score="none"),
    "start fed, two layers": dict(feed="start", layers=2),
    "Luong's": PRESETS["luong"] | dict(layers=2),
    "one direction, two layers, dot, context":
        dict(bidirectional=False, layers=2, score="dot", feed="context"),
}


def both(seed: int = 0, **config) -> tuple[NMT, TorchNMT]:
    sizes = {name: config.pop(name, size) for name, size in SIZES.items()}
    ours = NMT(**sizes, **config, dtype="float64", seed=seed)
    theirs = TorchNMT(**sizes, **config).double()
    copy_weights(ours.params, theirs)
    return ours, theirs


def batch(seed: int = 1, sentences: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths in no order, one of each side of length 1."""
    rng = np.random.default_rng(seed)
    src_lengths, tgt_lengths = rng.integers(1, 8, sentences), rng.integers(1, 7, sentences)
    src_lengths[2], tgt_lengths[4] = 1, 1
    src = np.zeros((src_lengths.max(), sentences), np.int64)
    tgt = np.zeros((tgt_lengths.max() + 1, sentences), np.int64)
    for b, (s, t) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        src[:s, b] = rng.integers(3, SIZES["src_vocab_size"], s)
        tgt[: t + 1, b] = [1, *rng.integers(3, SIZES["tgt_vocab_size"], t - 1), 2]
    return src, src_lengths, tgt


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_loss_and_every_gradient_agree_with_pytorch(name: str) -> None:
    ours, theirs = both(**CONFIGURATIONS[name])
    src, lengths, tgt = batch()
    loss, cache = ours.forward(src, lengths, tgt)
    grads = ours.backward(cache)
    expected = theirs(*map(torch.from_numpy, (src, lengths, tgt)))
    expected.backward()

    assert loss == pytest.approx(expected.item(), rel=AGREEMENT)
    for parameter, theirs_grad in gradients(ours.params, theirs).items():
        largest = np.abs(theirs_grad).max()
        assert largest > 0, f"{parameter}: PyTorch's gradient is zero, nothing is compared"
        error = np.abs(grads[parameter] - theirs_grad).max() / largest
        assert error <= AGREEMENT, f"gradient of {parameter} differs by {error:.1e} of its largest element"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_weight_has_its_place_in_the_pytorch_model(name: str) -> None:
    ours, theirs = both(**CONFIGURATIONS[name])
    counts = {parameter: 0 for parameter in ours.params}
    for parameter, index, view in views(theirs, lambda p: p):
        assert ours.params[parameter][index].shape == view.shape
        counts[parameter] += view.numel()
    assert counts == {parameter: array.size for parameter, array in ours.params.items()}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("beam_size", [1, 4])
def test_beam_search_finds_what_pytorch_finds(name: str, beam_size: int) -> None:
    ours, theirs = both(**CONFIGURATIONS[name])
    for array in ours.params.values():
        array *= 10  # sharper choices, and ends within the limit
    copy_weights(ours.params, theirs)
    theirs.eval()
    src, lengths, _ = batch()
    for b, length in enumerate(lengths):
        ids = src[:length, b].tolist()
        best = ours.beam_search(ids, beam_size=beam_size, max_decoding_time_step=12)[0]
        value, score = beam_search(theirs, ids, beam_size, max_steps=12, shrink=False)[0]
        assert list(best.value) == value
        assert best.score == pytest.approx(score, rel=1e-9)
