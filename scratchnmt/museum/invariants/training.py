"""The optimizer, clipping, and what training reads."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..patch import part

RATE, B1, B2, EPS = 0.1, 0.9, 0.999, 1e-8


def adam_takes_the_steps_of_the_paper(package: ModuleType) -> None:
    """Three steps of Adam against algorithm 1 of Kingma & Ba (2015), written out."""
    params, gradients = _weights(package), np.random.default_rng(1).standard_normal((3, 6))
    w, m, v = params.flat.copy(), np.zeros(6), np.zeros(6)
    adam = part(package, "optim").Adam(params, RATE, (B1, B2), EPS)
    for t, g in enumerate(gradients, 1):
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        w -= RATE * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)
        try:
            adam.step(params.like(g.copy()))
        except ZeroDivisionError as error:
            raise AssertionError(f"step {t} of Adam divides by zero: it counts steps from 0") from error
        moved = np.abs(params.flat - w).max()
        if not moved < 1e-12:
            raise AssertionError(f"after step {t} a weight is {moved / RATE:.2f} learning rates from where the "
                                 "paper's algorithm puts it")


def a_reloaded_adam_goes_on_as_before(package: ModuleType) -> None:
    """Four steps, and two with two more after the state was saved and loaded."""
    Adam = part(package, "optim").Adam
    gradients = np.random.default_rng(1).standard_normal((4, 6))
    straight, resumed = _weights(package), _weights(package)
    first, second = Adam(straight, RATE), Adam(resumed, RATE)
    for step, g in enumerate(gradients):
        if step == 2:
            saved, second = second.state(), Adam(resumed, RATE)
            second.load_state(saved)
        first.step(straight.like(g.copy()))
        second.step(resumed.like(g.copy()))
    moved = np.abs(straight.flat - resumed.flat).max()
    if moved != 0:
        raise AssertionError(f"after two steps, a save, a load and two more steps a weight is {moved / RATE:.2f} "
                             "learning rates from where four steps lead")


def clipping_keeps_the_direction(package: ModuleType) -> None:
    """All gradients are made shorter by the same factor."""
    optim = part(package, "optim")
    grads = _weights(package)
    grads["a"][...], grads["b"][...] = [[3.0, -4.0], [12.0, 0.0]], [0.3, -0.4]  # norms of 13 and 0.5
    before = grads.flat.copy()
    optim.clip_global_norm(grads, 1.0)
    cosine = float(grads.flat @ before / np.sqrt((grads.flat @ grads.flat) * (before @ before)))
    if not np.isclose(cosine, 1, rtol=1e-12):
        raise AssertionError(f"clipping turns the gradient: the cosine of the angle to what it was is "
                             f"{cosine:.2f}, expected 1")


def every_target_ends_where_the_sentence_does(package: ModuleType) -> None:
    """Without </s> as the last word to predict, a model never learns to stop."""
    make_batch, EOS = part(package, "data.batches").make_batch, part(package, "data.vocab").EOS
    batch = make_batch([[4], [5, 6]], [[7, 8, 9], [4]])
    last = batch.tgt[batch.tgt_lengths, np.arange(2)].tolist()
    if last != [EOS, EOS]:
        raise AssertionError(f"the last tokens to predict of two sentences are {last}, expected </s> = {EOS} for "
                             "both")


def _weights(package: ModuleType):
    """Six weights in two arrays."""
    flat = np.linspace(-1, 1, 6)
    return part(package, "parameters").Parameters({"a": (2, 2), "b": (2,)}, "float64", flat=flat)
