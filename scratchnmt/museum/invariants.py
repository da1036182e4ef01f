"""What must hold whatever the numbers are, where a wrong forward pass has a backward pass to match.

No gradient check sees such a bug: the derivative of the wrong function is right.  Each of these functions
takes the package (or a copy of it that has a bug) and raises AssertionError with a sentence on what it saw,
by `raise` and not by `assert`, so that it does also under `python -O` and pytest leaves the sentence alone.
"""

from __future__ import annotations

from itertools import product
from types import ModuleType

import numpy as np

from .patch import part

__all__ = [
    "a_full_beam_is_exhaustive_search", "a_reloaded_adam_goes_on_as_before",
    "a_row_that_is_all_masked_gives_zeros", "a_score_is_that_of_forced_decoding",
    "a_search_does_not_depend_on_its_batch", "a_sentence_alone_is_what_it_is_in_a_batch",
    "a_wrong_gradient_is_seen_whatever_its_sign", "adam_takes_the_steps_of_the_paper",
    "backward_twice_is_the_same", "clipping_keeps_the_direction", "every_target_ends_where_the_sentence_does",
    "masked_places_get_no_weight", "padding_does_not_count_in_the_loss",
    "perplexity_does_not_depend_on_the_batches", "the_order_of_the_sentences_changes_nothing",
    "the_sequence_is_a_loop_of_cells", "the_validation_loss_is_without_dropout_and_smoothing",
    "what_is_to_be_predicted_is_not_read",
]


# What is in a batch decides, not how it is laid out; what is padding or masked counts nowhere.

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
            together = model.nll(src[:, pair], lengths[pair], tgt[:, pair])
            expected = singly[b] + singly[other]
            if not np.isclose(together, expected, rtol=1e-12, atol=0):
                raise AssertionError(f"sentences {b} and {other} have a loss of {singly[b]:.2f} and "
                                     f"{singly[other]:.2f} alone, but of {together:.2f} together in a padded batch, "
                                     f"expected {expected:.2f}")


def the_order_of_the_sentences_changes_nothing(package: ModuleType) -> None:
    """The loss of a batch and of the same batch in another order."""
    model, (src, lengths, tgt) = example(package)
    expected = model.nll(src, lengths, tgt)
    for order in ([3, 0, 2, 1], [1, 2, 3, 0]):
        loss = model.nll(src[:, order], lengths[order], tgt[:, order])
        if not np.isclose(loss, expected, rtol=1e-12, atol=0):
            raise AssertionError(f"the loss of a batch is {expected:.2f}, with its sentences in the order {order} "
                                 f"it is {loss:.2f}")


def the_sequence_is_a_loop_of_cells(package: ModuleType) -> None:
    """The fast LSTM over a batch against lstm_cell, one sentence, one direction and one token at a time."""
    selfcheck, lstm = part(package, "selfcheck"), part(package, "ops.lstm")
    case = next(c for c in selfcheck.CASES if c.name == "lstm, two directions, initial states")
    args = {**case.arguments(selfcheck.SIZES, np.random.default_rng(0)), "lengths": np.array([2, 4, 1])}
    outputs, _ = lstm.lstm_forward(**args)
    expected = _plain_lstm(part(package, "ops.lstm").lstm_cell_forward, **args)
    for name, a, b in zip(("y", "h_last", "c_last"), outputs, expected, strict=True):
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
    softmax = part(package, "ops.activations").softmax_forward
    mask = np.array([[True, True, False, False], [True, False, True, True]])
    weights, _ = softmax(np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 2.0]]), mask)
    masked = float(weights[~mask].sum())
    if masked != 0:
        raise AssertionError(f"{masked:.2f} of two rows' weight is given to places that the mask leaves out, "
                             "expected 0")


def a_row_that_is_all_masked_gives_zeros(package: ModuleType) -> None:
    softmax = part(package, "ops.activations").softmax_forward
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
    loss = model.nll(*batch)
    if not np.isclose(loss, expected, rtol=1e-12, atol=0):
        raise AssertionError(f"-log p of a batch is {expected:.2f}; a model that is trained with dropout and "
                             f"label smoothing reports {loss:.2f} in validation")


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


# A search returns what the model says, and the best of it.

BOS, EOS = 1, 2
MOST = 4  # tokens of a translation, </s> included
SENTENCES = [[4, 3, 5], [3], [5, 4, 3, 3, 4], [4, 4]]


def tiny_model(package: ModuleType):
    """A model of three words on either side, sure enough of itself that the shortest is not always the best."""
    model = part(package, "models.nmt").NMT(6, 6, 3, 4, dtype="float64")
    model.params.flat[...] = np.random.default_rng(36).standard_normal(model.params.flat.size)
    model.params["vocab.W"][...] *= 3
    return model


def log_probability(model, sentence: list[int], words: list[int]) -> float:
    """log p of `words`, to be read from <s> on, token by token given (forced decoding)."""
    tgt = np.array([BOS, *words])[:, None]
    return -model.nll(np.array(sentence)[:, None], np.array([len(sentence)]), tgt)


def search(package: ModuleType, model, sentences: list[list[int]], **options):
    """beam_search of these sentences in one padded batch."""
    batch = part(package, "data.batches").make_batch(sentences, [[] for _ in sentences])
    return part(package, "search").beam_search(model, batch.src, batch.src_lengths, max_steps=MOST, **options)


def a_full_beam_is_exhaustive_search(package: ModuleType) -> None:
    """A beam wide enough for everything finds the best five of all translations."""
    model = tiny_model(package)
    every = [list(words) for n in range(MOST) for words in product([3, 4, 5], repeat=n)]
    for sentence, hypotheses in zip(SENTENCES, search(package, model, SENTENCES, beam_size=100, n_best=5), strict=True):
        scored = [(log_probability(model, sentence, [*words, EOS]), words) for words in every]
        for rank, (hypothesis, best) in enumerate(zip(hypotheses, sorted(scored, reverse=True), strict=False), 1):
            (value, score), (expected, words) = hypothesis, best
            if value != words:
                raise AssertionError(f"the translation of rank {rank} of the sentence {sentence} is {words}, of "
                                     f"log-probability {expected:.2f}; a beam that has room for all of them "
                                     f"returns {value} ({score:.2f})")


def a_search_does_not_depend_on_its_batch(package: ModuleType) -> None:
    """Sentences translated together and one by one."""
    model = tiny_model(package)
    for sentence, together in zip(SENTENCES, search(package, model, SENTENCES, beam_size=3), strict=True):
        (expected,) = search(package, model, [sentence], beam_size=3)
        for a, b in zip(together, expected, strict=False):
            if not (a.value == b.value and np.isclose(a.score, b.score, rtol=1e-10, atol=0)):
                raise AssertionError(f"alone, the sentence {sentence} is translated as {b.value} ({b.score:.2f}), "
                                     f"in a batch with others as {a.value} ({a.score:.2f})")


def a_score_is_that_of_forced_decoding(package: ModuleType) -> None:
    """The score that the search gives a translation is the loss that training would give it, negated."""
    model = tiny_model(package)
    for sentence, hypotheses in zip(SENTENCES, search(package, model, SENTENCES, beam_size=4, n_best=4), strict=True):
        for value, score in hypotheses:
            expected = log_probability(model, sentence, [*value, EOS])
            if not np.isclose(score, expected, rtol=1e-10, atol=0):
                raise AssertionError(f"the search gives {value} for {sentence} the score {score:.2f}, forced "
                                     f"decoding {expected:.2f}")


def what_is_to_be_predicted_is_not_read(package: ModuleType) -> None:
    """The last word of a target has an embedding, but its own probability must not depend on that."""
    model = tiny_model(package)
    before = log_probability(model, [4, 3, 5], [4, 3, 5])
    model.params["embed.tgt"][5] += 1
    after = log_probability(model, [4, 3, 5], [4, 3, 5])
    if before != after:
        raise AssertionError(f"log p of a translation changes from {before:.2f} to {after:.2f} with the embedding "
                             "of its last word, which no step may read before it is predicted")


# The optimizer, clipping, and what training reads.

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


# The checker itself.

def a_wrong_gradient_is_seen_whatever_its_sign(package: ModuleType) -> None:
    """y = x^2 with a gradient that is too large, and one that is too small."""
    forward = lambda x: (x * x, x)
    x, dy = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 1.0])
    for factor in (1.5, 0.5):
        backward = lambda dy, x, factor=factor: dy * factor * 2 * x
        report = part(package, "gradcheck.api").check_gradients(forward, backward, {"x": x}, dys=[dy])
        if report.wrong != ("dx",):
            raise AssertionError(f"a gradient of {factor} times its right value passes the check")
