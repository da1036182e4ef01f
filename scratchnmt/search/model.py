"""What a search asks of a model, and an Ensemble: several models in the place of one, by their mean.

A model returns states, which a search goes on with in part, and tells where its weights lie: see SearchedModel.  An
ensemble is such a model again, of M others:

    p(y_t | y_1 ... y_t-1, source) = 1/M sum_m p_m(y_t | y_1 ... y_t-1, source)                     (1)
    log p(y_t | ...)               = logsumexp_m(log p_m(y_t | ...)) - log M                        (2)

Sutskever et al. (2014) and Luong et al. (2015) report their best results with such ensembles of 5 and of 8 models,
and write no formula.  This is the arithmetic mean, as in fairseq; others take the mean of the logarithms.  (1) is a
probability again: over all words it sums to one, so a hypothesis' score needs no other normalisation, and the
probability of a given translation takes no other word's.  And it asks what some model thinks likely; in a mean of
logarithms a single model that finds a word impossible has a veto.

Sizes as in beam.py, and M models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ..arrays import Array
from ..errors import InputError
from .rows import log_mean_exp, log_mean_softmax


class SearchedState(Protocol):
    """Where B sentences with K hypotheses each stand."""

    def select(self, sentences: Array, beams: Array) -> Any:
        """Go on with `sentences` (B',), ascending, none twice, and in each with hypotheses `beams` (B', K')."""


State = TypeVar("State", bound=SearchedState)


class Weights(Protocol):
    """Where the numbers of a model lie."""

    @property
    def flat(self) -> Array:
        """All of them as one vector, which tells the device."""


class SearchedModel(Protocol[State]):
    """What has these can be searched; B sentences, K hypotheses of each, V words."""

    @property
    def params(self) -> Weights: ...

    def start(self, src: Array, src_lengths: Array) -> State:
        """Encode src (S, B) once; one hypothesis for each sentence, before <s>."""

    def step(self, state: State, y_prev: Array) -> tuple[Array, Array, State]:
        """logits (B, K, V) of the next word, attention (B, K, S), the new state, after words y_prev (B, K)."""

    def token_log_probs(self, src: Array, src_lengths: Array, tgt: Array) -> Array:
        """log p of every target token (T, B): forced decoding, of models that are asked for scores."""


class EnsembleState(NamedTuple):
    states: list[SearchedState]  # [M] each model's own

    def select(self, sentences: Array, beams: Array) -> EnsembleState:
        """Every model goes on with the same hypotheses."""
        return EnsembleState([state.select(sentences, beams) for state in self.states])


class Ensemble:
    """M models, which may differ in all but their vocabularies and their device, in the place of one.

    It has what `beam_search`, `sample` and `Translator` ask of a model.  Raises InputError if there is no model, and
    if their vocabularies, source or target, differ in size: at once where models tell them (`vocabulary_sizes`), else
    in the first step of a search.
    """

    def __init__(self, models: Sequence[SearchedModel[Any]]):
        self.models = list(models)
        if not self.models:
            raise InputError("an ensemble needs at least one model")
        check_vocabulary_sizes(self.models)

    @property
    def params(self) -> Weights:
        """The first model's weights, which tell the device and the type."""
        return self.models[0].params

    def start(self, src: Array, src_lengths: Array) -> EnsembleState:
        """Every model encodes src (S, B) once; raises what a model's `start` does."""
        return EnsembleState([model.start(src, src_lengths) for model in self.models])

    def step(self, state: EnsembleState, y_prev: Array) -> tuple[Array, Array, EnsembleState]:
        """log p (B, K, V) of the next word by (2), mean attention (B, K, S), the new state, after words y_prev (B, K).

        Raises InputError if the models' target vocabularies differ in size, and what a model's `step` does.
        """
        steps = (model.step(own, y_prev) for model, own in zip(self.models, state.states, strict=True))
        logits, attentions, states = zip(*steps, strict=True)
        sizes = [x.shape[-1] for x in logits]
        if len(set(sizes)) > 1:
            raise _different("target", sizes)
        log_p = log_mean_softmax([x.reshape(-1, sizes[0]) for x in logits])
        return log_p.reshape(logits[0].shape), sum(attentions) / len(attentions), EnsembleState(list(states))

    def token_log_probs(self, src: Array, src_lengths: Array, tgt: Array) -> Array:
        """log p of every target token (T, B), 0 where tgt is padding; arguments as NMT's."""
        return log_mean_exp([model.token_log_probs(src, src_lengths, tgt) for model in self.models])  # (2)

    def nll(self, src: Array, src_lengths: Array, tgt: Array) -> float:
        """-log p of all target tokens, summed."""
        return -float(self.token_log_probs(src, src_lengths, tgt).sum())


def vocabulary_sizes(model: Any) -> tuple[int, int] | None:
    """Tokens of the source and of the target vocabulary, if the model tells: by its config, or by the models in it."""
    if isinstance(model, Ensemble):
        return next((sizes for one in model.models if (sizes := vocabulary_sizes(one))), None)
    config = getattr(model, "config", None)
    return None if config is None else (config.src_vocab_size, config.tgt_vocab_size)


def check_vocabulary_sizes(models: Sequence[Any], who: str = "the models of an ensemble") -> None:
    """InputError if the vocabularies, source or target, of models that tell differ in size."""
    told = [sizes for model in models if (sizes := vocabulary_sizes(model))]
    for side, found in zip(("source", "target"), zip(*told, strict=True), strict=False):
        if len(set(found)) > 1:
            raise _different(side, found, who)


def longest_source(model: Any) -> int | None:
    """Tokens that a source may have, of an ensemble for every model in it; None: any number."""
    if isinstance(model, Ensemble):
        return min((most for one in model.models if (most := longest_source(one)) is not None), default=None)
    config = getattr(model, "config", None)
    return None if config is None else config.longest


def attends(model: Any) -> bool:
    """Whether the model, or one of an ensemble, has attention; one that says nothing of it has."""
    if isinstance(model, Ensemble):
        return any(attends(one) for one in model.models)
    config = getattr(model, "config", None)
    return config is None or config.attends


def _different(side: str, sizes: Sequence[int], who: str = "the models of an ensemble") -> InputError:
    return InputError(f"{who} must share the {side} vocabulary: theirs have {list(sizes)} words")
