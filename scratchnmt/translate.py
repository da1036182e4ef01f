"""Translator: text in, text out, with a trained model and its two vocabularies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from .data.batches import make_batch
from .data.vocab import EOS, SPECIALS, Vocabulary
from .errors import InputError
from .search import Hypothesis, beam_search, check_options

_WINDOW = 16  # batches that are read ahead, so that sentences of like length can go together
_MEMORY = 1 << 29  # bytes: the attention weights that the hypotheses of a batch may take


class AttendedTranslation(NamedTuple):
    """A translation with what its words looked at; unpacks as text, src_tokens, tgt_tokens, attention."""

    text: str
    src_tokens: list[str]  # S
    tgt_tokens: list[str]  # T, the last is </s> unless the limit of length came first
    attention: np.ndarray  # (T, S), each row sums to one


class Translator:
    """Translates sentences with `model`; ids come from `src_vocab` and are read by `tgt_vocab`."""

    def __init__(self, model: Any, src_vocab: Vocabulary, tgt_vocab: Vocabulary):
        self.model = model
        self.src_vocab = src_vocab
        self.tgt_vocab = tgt_vocab

    @classmethod
    def load(cls, directory: str | os.PathLike, device: str = "cpu", **computing: Any) -> Translator:
        """The translator of a training run's folder; computing: kernels and matmul, as NMT takes them.

        InputError if the folder is missing, incomplete or corrupt.
        """
        from .checkpoint import load_model

        return cls(*load_model(directory, device, **computing))

    def translate(self, lines: Iterable[str], beam_size: int = 5, **options: Any) -> list[Any]:
        """Translate every line; one result for each, in order.  Options as in `stream`."""
        return list(self.stream(lines, beam_size=beam_size, **options))

    def stream(
        self,
        lines: Iterable[str],
        *,
        beam_size: int = 5,
        n_best: int | None = None,
        length_penalty: float = 0.0,
        max_length: int | None = None,
        batch_size: int = 64,
        window: int | None = None,
    ) -> Iterator[Any]:
        """Translate lines as they come; yield one result for each, in order.  Blank in, blank out.

        A result is the best translation, a str; with n_best, a list of up to n_best (text, score), best
        first, score being the log-probability.  length_penalty is the alpha of scratchnmt.search, and
        beam_size 1 without it is greedy search.  max_length bounds the tokens of a translation, </s>
        included; None: twice those of its source, and 10.  At most `window` lines are read ahead of the
        results (None: 16 batches), which are translated in batches of `batch_size` sentences of like
        length; window=1 answers each line before it reads the next.

        Raises InputError for sizes below 1, n_best above beam_size, a negative length_penalty; with its
        number, for a line so long that its search might not fit into memory.
        """
        if isinstance(lines, str):
            raise TypeError("lines must be a list of sentences, not one string")
        window = _WINDOW * batch_size if window is None else window
        for name, value in ("batch_size", batch_size), ("window", window):
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        n = 1 if n_best is None else n_best
        search = dict(beam_size=beam_size, length_penalty=length_penalty, n_best=n)
        _check(max_length, search)
        return self._stream(iter(lines), window, batch_size, max_length, n_best is None, search)

    def _stream(self, lines, window, batch_size, max_length, best_only, search) -> Iterator[Any]:
        numbered = enumerate(lines, start=1)
        for first in numbered:
            taken = chain([first], islice(numbered, window - 1))
            sentences = [self._encode(line, f"line {n}", max_length, search) for n, line in taken]
            for hypotheses in self._search(sentences, batch_size, max_length, search):
                scored = [(self.tgt_vocab.decode(value), score) for value, score in hypotheses]
                yield scored[0][0] if best_only else scored

    def _search(self, sentences, batch_size, max_length, search) -> list[list[Hypothesis]]:
        """The best hypotheses of each sentence; the empty translation, of score 0, of one without tokens."""
        found = [[Hypothesis([], 0.0)] for _ in sentences]
        order = sorted((i for i, ids in enumerate(sentences) if ids), key=lambda i: len(sentences[i]))
        sizes = [self._search_size(ids, max_length, search) for ids in sentences]
        for chosen in _batches(order, sizes, batch_size):
            batch = make_batch([sentences[i] for i in chosen], [[] for _ in chosen])
            limits = _limit(batch.src_lengths, max_length)
            try:
                results = beam_search(self.model, batch.src, batch.src_lengths, max_steps=limits, **search)
            except MemoryError as error:
                raise InputError(f"out of memory ({error}) in the search of {len(chosen)} sentences of up to "
                                 f"{batch.src_lengths.max()} tokens; lower batch_size, now {batch_size}, "
                                 f"or beam_size, now {search['beam_size']}") from error
            for i, hypotheses in zip(chosen, results):
                found[i] = hypotheses
        return found

    def _encode(self, line, name, max_length, search) -> list[int]:
        """The ids of a line; InputError, calling it `name`, if its search alone takes too much memory."""
        ids = self.src_vocab.encode(line)
        size = self._search_size(ids, max_length, search)
        if size > _MEMORY:
            raise InputError(f"{name} has {len(ids):,} tokens: a search with beam_size {search['beam_size']} "
                             f"and max_length {_limit(len(ids), max_length):,} may keep "
                             f"{size / 2**20:,.0f} MB of attention weights, the limit is {_MEMORY >> 20} MB")
        return ids

    def _search_size(self, ids, max_length, search) -> int:
        """Bytes of the attention weights (T, K, S) that the search of one sentence keeps, at most."""
        weights = search["beam_size"] * len(ids) * _limit(len(ids), max_length)
        return weights * self.model.params.flat.itemsize

    def translate_with_attention(
        self, line: str, *, beam_size: int = 5, length_penalty: float = 0.0, max_length: int | None = None
    ) -> AttendedTranslation:
        """Translate one line and keep which source tokens each target token looked at."""
        search = dict(beam_size=beam_size, length_penalty=length_penalty, n_best=1)
        _check(max_length, search)
        ids = self._encode(line, "the sentence", max_length, search)
        ((best,),) = self._search([ids], 1, max_length, search)
        tokens = [self.tgt_vocab.token(i) for i in best.value]
        attention = np.zeros((0, 0)) if best.attention is None else best.attention
        if len(attention) > len(tokens):
            tokens.append(SPECIALS[EOS])
        text = self.tgt_vocab.decode(best.value)
        return AttendedTranslation(text, self.src_vocab.tokens(line), tokens, attention)


def _batches(order: list[int], sizes: list[int], batch_size: int) -> Iterator[list[int]]:
    """Cut `order`, ascending in size, so that no batch's B times its largest size is above the limit."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == batch_size or (len(batch) + 1) * sizes[i] > _MEMORY):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _limit(length: Any, max_length: int | None) -> Any:
    return 2 * length + 10 if max_length is None else max_length


def _check(max_length: int | None, search: dict[str, Any]) -> None:
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length must be at least 1, not {max_length}")
    check_options(max_steps=1, **search)
