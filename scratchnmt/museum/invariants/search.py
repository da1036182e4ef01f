"""A search returns what the model says, and the best of it."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import numpy as np

from ..patch import part

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
    for sentence, found in zip(SENTENCES, search(package, model, SENTENCES, beam_size=100, n_best=5), strict=True):
        scored = [(log_probability(model, sentence, [*words, EOS]), words) for words in every]
        for rank, (hypothesis, best) in enumerate(zip(found, sorted(scored, reverse=True), strict=False), 1):
            (value, score), (expected, words) = hypothesis, best
            if value != words:
                raise AssertionError(f"the translation of rank {rank} of the sentence {sentence} is {words}, of "
                                     f"log-probability {expected:.2f}; a beam that has room for all of them "
                                     f"returns {value} ({score:.2f})")


def a_search_does_not_depend_on_its_batch(package: ModuleType) -> None:
    """Sentences translated together and one by one."""
    model = tiny_model(package)
    for sentence, found in zip(SENTENCES, search(package, model, SENTENCES, beam_size=3), strict=True):
        (expected,) = search(package, model, [sentence], beam_size=3)
        for a, b in zip(found, expected, strict=False):
            if not (a.value == b.value and np.isclose(a.score, b.score, rtol=1e-10, atol=0)):
                raise AssertionError(f"alone, the sentence {sentence} is translated as {b.value} ({b.score:.2f}), "
                                     f"in a batch with others as {a.value} ({a.score:.2f})")


def a_score_is_that_of_forced_decoding(package: ModuleType) -> None:
    """The score that the search gives a translation is the loss that training would give it, negated."""
    model = tiny_model(package)
    for sentence, found in zip(SENTENCES, search(package, model, SENTENCES, beam_size=4, n_best=4), strict=True):
        for value, score in found:
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
