"""What is in a batch decides, not how it is laid out; what is padding or masked counts nowhere."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import numpy as np

from ..patch import part

SRC_LENGTHS, TGT_LENGTHS = np.array([3, 5, 1, 4]), np.array([4, 1, 5, 2])  # in no order; one word; only </s>


def example(package: ModuleType, **choices):
    """A small model in float64 and a batch for it: (model, (src, src_lengths, tgt))."""
    selfcheck = part(package, "selfcheck")
    batch = selfcheck.example_batch(SRC_LENGTHS, TGT_LENGTHS)
    return selfcheck.ModelCase("an example", choices).model(), batch


def alone(batch, b: int):
    """Sentence b of the batch without any padding, as a batch of one."""
    src, _, tgt = batch
    return (src[: SRC_LENGTHS[b], b : b + 1], SRC_LENGTHS[b : b + 1],
            tgt[: TGT_LENGTHS[b] + 1, b : b + 1])


def a_sentence_alone_is_what_it_is_in_a_batch(package: ModuleType) -> None:
    """-log p of each sentence by itself, against the same sentence in batches with another, padded."""
    model, batch = example(package)
    src, lengths, tgt = batch
    singly = [model.nll(*alone(batch, b)) for b in range(len(lengths))]
    for b, other in product(range(len(lengths)), repeat=2):
        if b != other:
            pair = [b, other]
            found = model.nll(src[:, pair], lengths[pair], tgt[:, pair])
            expected = singly[b] + singly[other]
            if not np.isclose(found, expected, rtol=1e-12, atol=0):
                raise AssertionError(f"sentences {b} and {other} have a loss of {singly[b]:.2f} and "
                                     f"{singly[other]:.2f} alone, but of {found:.2f} together in a padded batch, "
                                     f"expected {expected:.2f}")


def the_order_of_the_sentences_changes_nothing(package: ModuleType) -> None:
    """The loss of a batch and of the same batch in another order."""
    model, (src, lengths, tgt) = example(package)
    expected = model.nll(src, lengths, tgt)
    for order in ([3, 0, 2, 1], [1, 2, 3, 0]):
        found = model.nll(src[:, order], lengths[order], tgt[:, order])
        if not np.isclose(found, expected, rtol=1e-12, atol=0):
            raise AssertionError(f"the loss of a batch is {expected:.2f}, with its sentences in the order {order} "
                                 f"it is {found:.2f}")


def the_sequence_is_a_loop_of_cells(package: ModuleType) -> None:
    """The fast LSTM over a batch against lstm_cell, one sentence, one direction and one token at a time."""
    selfcheck, lstm = part(package, "selfcheck"), part(package, "ops.lstm")
    case = next(c for c in selfcheck.CASES if c.name == "lstm, two directions, initial states")
    args = {**case.arguments(selfcheck.SIZES, np.random.default_rng(0)), "lengths": np.array([2, 4, 1])}
    found, _ = lstm.lstm_forward(**args)
    expected = _plain_lstm(part(package, "ops.lstm_cell").lstm_cell_forward, **args)
    for name, a, b in zip(("y", "h_last", "c_last"), found, expected, strict=True):
        off = ~np.isclose(a, b, rtol=1e-10, atol=1e-12)
        if off.any():
            raise AssertionError(f"{name} of the sequence differs from that of a loop of cells in {off.sum()} of "
                                 f"{off.size} elements; first at {tuple(map(int, np.argwhere(off)[0]))}: "
                                 f"{a[off][0]:.2f}, expected {b[off][0]:.2f}")


def _plain_lstm(cell, x, lengths, Wx, Wh, b, h0, c0):
    (T, B, _), (D, H, _) = x.shape, Wh.shape
    y, last = np.zeros((T, B, D, H)), np.zeros((2, D, B, H))
    for d, s in product(range(D), range(B)):
        h, c = h0[d, s : s + 1], c0[d, s : s + 1]
        for t in range(lengths[s]) if d == 0 else reversed(range(lengths[s])):
            (h, c), _ = cell(x[t, s : s + 1], h, c, Wx[d], Wh[d], b[d])
            y[t, s, d] = h[0]
        last[:, d, s] = h[0], c[0]
    return y.reshape(T, B, D * H), *last


def backward_twice_is_the_same(package: ModuleType) -> None:
    """The model's backward pass leaves its cache as it was."""
    model, batch = example(package, layers=2, score="concat")
    _, cache = model.forward(*batch)
    first, second = (model.backward(cache) for _ in range(2))
    changed = [name for name in first if not np.array_equal(first[name], second[name])]
    if changed:
        raise AssertionError("a second backward pass from the same cache gives another gradient of "
                             f"{len(changed)} of {len(first)} weights, {changed[0]} among them: the first one "
                             "wrote into it")


def masked_places_get_no_weight(package: ModuleType) -> None:
    softmax = part(package, "ops.softmax").softmax_forward
    mask = np.array([[True, True, False, False], [True, False, True, True]])
    weights, _ = softmax(np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 2.0]]), mask)
    masked = float(weights[~mask].sum())
    if masked != 0:
        raise AssertionError(f"{masked:.2f} of two rows' weight is given to places that the mask leaves out, "
                             "expected 0")


def a_row_that_is_all_masked_gives_zeros(package: ModuleType) -> None:
    softmax = part(package, "ops.softmax").softmax_forward
    with np.errstate(all="ignore"):
        weights, _ = softmax(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[True, True], [False, False]]))
    if weights[1].any():
        raise AssertionError(f"a row that is masked out entirely gives {weights[1].tolist()}, expected zeros")


def padding_does_not_count_in_the_loss(package: ModuleType) -> None:
    """The fused loss and the plain one, with and without rows of padding."""
    fused, plain = part(package, "ops.linear_cross_entropy"), part(package, "ops.cross_entropy")
    rng = np.random.default_rng(0)
    x, W, targets = rng.standard_normal((4, 3)), rng.standard_normal((3, 5)), np.array([2, 4, 0, 0])
    fused_loss = lambda x, t: float(fused.linear_cross_entropy_forward(x, W, t)[0])
    plain_loss = lambda x, t: float(plain.cross_entropy_forward(x @ W, t)[0])
    for name, loss in (("linear_cross_entropy", fused_loss), ("cross_entropy", plain_loss)):
        words, padded = loss(x[:2], targets[:2]), loss(x, targets)
        if not np.isclose(words, padded, rtol=1e-12, atol=0):
            raise AssertionError(f"{name}: the loss of two words is {words:.2f}, with two rows of padding below "
                                 f"them {padded:.2f}")


def the_validation_loss_is_without_dropout_and_smoothing(package: ModuleType) -> None:
    """nll of a model that is trained with both, against the plain loss of the same weights."""
    model, batch = example(package, dropout=0.5, embed_dropout=0.5, label_smoothing=0.1)
    plain, _ = example(package)
    expected = float(plain.with_params(model.params).forward(*batch)[0])
    found = model.nll(*batch)
    if not np.isclose(found, expected, rtol=1e-12, atol=0):
        raise AssertionError(f"-log p of a batch is {expected:.2f}; a model that is trained with dropout and "
                             f"label smoothing reports {found:.2f} in validation")


def perplexity_does_not_depend_on_the_batches(package: ModuleType) -> None:
    """The same sentences measured in one padded batch and one by one."""
    make_batch = part(package, "data.batches").make_batch
    perplexity = part(package, "metrics").perplexity
    model, _ = example(package)
    src, tgt = [[4, 5, 6], [7], [5, 8, 9, 4]], [[5, 6], [7, 8, 9, 4, 10], [11]]
    together = perplexity(model, [make_batch(src, tgt)])
    singly = perplexity(model, [make_batch([s], [t]) for s, t in zip(src, tgt, strict=True)])
    if not np.isclose(together, singly, rtol=1e-12, atol=0):
        raise AssertionError(f"the perplexity of three sentences is {singly:.2f} if they are measured one by one, "
                             f"{together:.2f} in one padded batch")
