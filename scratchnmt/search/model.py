"""What a search asks of a model and of the states that the model returns, and where its weights lie."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from ..arrays import Array


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
