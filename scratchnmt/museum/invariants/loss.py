"""What counts in a softmax, in the loss and in a measurement of it."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..patch import part
from .layout import example


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
