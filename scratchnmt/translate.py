"""Translator: text in, text out, with a trained model and its two vocabularies."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from math import nan
from typing import Any, NamedTuple

import numpy as np

from .arrays import device_of, to_device
from .data.batches import Batch, make_batch
from .data.coverage import BothSides, CoverageCounter
from .data.vocab import EOS, SPECIALS, Vocabulary, ids_of_pieces
from .errors import InputError
from .long_lines import REFUSED, LongLines
from .metrics import perplexity_of
from .parallel.ranks import Ranks
from .parallel.workers import check_workers, each
from .search import Hypothesis, beam_search, check_constraints, check_options, check_sampling, sample
from .search.model import attends, longest_source, vocabulary_sizes
from .unknown import Writer, writer

_WINDOW = 16  # batches that are read ahead, so that sentences of like length can go together
_PAYS = 1e9  # weights times tokens for which another process is worth its start: some hundredths of a second
_MEMORY = 1 << 29  # bytes: the attention weights that the hypotheses of a batch may take


class AttendedTranslation(NamedTuple):
    """A translation with what its words looked at; unpacks as text, src_tokens, tgt_tokens, attention."""

    text: str
    src_tokens: list[str]  # S
    tgt_tokens: list[str]  # T, the last is </s> unless the limit of length came first
    # (T, S), of several heads the mean; rows sum to one, with local-p to less, and are zero where a step saw nothing
    attention: np.ndarray


class ScoredTranslation(NamedTuple):
    """How probable a given translation is: the sum, and what it is the sum of."""

    score: float  # log-probability, in nats; NaN, without tokens, of a pair that was skipped
    tokens: list[str]  # T, the last is </s>
    token_scores: list[float]  # T log-probabilities, each given the tokens before


class _Search(NamedTuple):
    """How the translations of a batch are found."""

    beam_size: int  # hypotheses of each sentence
    limit: Callable[[int], int]  # the most tokens, </s> included, of the translation of a source of so many
    find: Callable[..., list[list[Hypothesis]]]  # of a Batch, the limits of steps and the numbers of the lines


class _Line(NamedTuple):
    number: int  # from 1
    text: str
    ids: list[int]


class Translator:
    """Translates sentences with `model`; ids come from `src_vocab` and are read by `tgt_vocab`.

    ranks: the processes that translate together (see scratchnmt.parallel.ranks), each calling the same functions with
    the same lines; each searches for its share of the batches, and all have all results.  workers: how many processes
    of this machine each may use (see scratchnmt.parallel.workers), where there is work for them; the results are the
    same bits, whatever their number.  usual: how the vocabularies cover the training text, if that is known.

    `seen` counts how the vocabularies cover the lines that were translated or scored (see scratchnmt.data.coverage).

    Raises InputError if a vocabulary has not as many tokens as the model, where the model tells how many, and for
    several workers of a model on a GPU; WorkerError, while it translates or scores, if one of several is gone.
    """

    def __init__(self, model: Any, src_vocab: Vocabulary, tgt_vocab: Vocabulary, ranks: Ranks | None = None,
                 usual: BothSides | None = None, workers: int = 1):
        for side, vocab, size in zip(("source", "target"), (src_vocab, tgt_vocab), vocabulary_sizes(model) or (),
                                     strict=False):
            if len(vocab) != size:
                raise InputError(f"the {side} vocabulary has {len(vocab):,} tokens, the model was made for {size:,}")
        self.model = model
        self.src_vocab = src_vocab
        self.tgt_vocab = tgt_vocab
        check_workers(workers, "cpu" if workers == 1 else device_of(model.params.flat))
        self.ranks, self.workers = ranks or Ranks(), workers
        self.usual, self.seen = usual, (CoverageCounter(src_vocab), CoverageCounter(tgt_vocab))

    @classmethod
    def load(cls, directory: str | os.PathLike | Sequence[str | os.PathLike], device: str = "cpu",
             ranks: Ranks | None = None, workers: int = 1, **computing: Any) -> Translator:
        """The translator of a training run's folder; computing: kernels and matmul, as NMT takes them.

        Of a list of several folders, an `Ensemble` translates (see scratchnmt.search.model).

        InputError if a folder is missing, incomplete or corrupt, or has other vocabularies than the first.
        """
        from .checkpoint import load_models
        from .files.run_folder import RunFolder

        directories = [directory] if isinstance(directory, (str, os.PathLike)) else directory
        loaded = load_models(directories, device, **computing)
        return cls(*loaded, ranks, usual=RunFolder(directories[0]).coverage(), workers=workers)

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
        min_length: int = 0,
        no_repeat_ngram_size: int = 0,
        batch_size: int = 64,
        window: int | None = None,
        replace_unknown: bool = False,
        dictionary: Mapping[str, str] | None = None,
        pieces: bool = False,
        remove_bpe: bool = False,
        long: LongLines = REFUSED,
    ) -> Iterator[Any]:
        """Translate lines as they come; yield one result for each, in order.  Blank in, blank out.

        A result is the best translation, a str; with n_best, a list of up to n_best (text, score), best
        first, score being the log-probability.  length_penalty is the alpha of scratchnmt.search, and
        beam_size 1 without it is greedy search.  max_length bounds the tokens of a translation, </s>
        included; None: twice those of its source, or min_length if that is more, and 10.  min_length and
        no_repeat_ngram_size leave out translations with fewer tokens before </s>, and with an n-gram of that size
        twice (see scratchnmt.search.constraints); 0 leaves out none.  At most `window` lines are read ahead of the
        results (None: 16 batches for each process), which are translated in batches of `batch_size` sentences
        of like length; window=1 answers each line before it reads the next.  replace_unknown puts the source
        word with the most attention in the place of <unk>, or what the dictionary has for that word (see
        scratchnmt.unknown); the scores remain those of <unk>.  pieces: the text is the tokens that were found,
        with spaces between, for `score`.  remove_bpe: the words are parts of words, of a text that was segmented
        before training, and are joined (see scratchnmt.data.vocab).  long: what becomes of a source of more
        tokens than it allows, than the model knows positions for (score "location") or than a search that fits
        into memory (see scratchnmt.long_lines); skipped, it gives what a blank line gives.

        Raises InputError for sizes below 1, n_best above beam_size, a negative length_penalty or constraint, a
        min_length that max_length leaves no room for, a model whose unknown words cannot be replaced; with its number,
        for a line that is too long, if such lines are refused.
        """
        n = 1 if n_best is None else n_best
        search = self._beam(max_length, beam_size=beam_size, length_penalty=length_penalty, n_best=n,
                            min_length=min_length, no_repeat_ngram_size=no_repeat_ngram_size)
        write = writer(self.model, self.src_vocab, self.tgt_vocab, replace_unknown, dictionary, pieces, remove_bpe)
        results = self._stream(lines, window, batch_size, search, write, long)
        return (scored[0][0] for scored in results) if n_best is None else results

    def sample(
        self,
        lines: Iterable[str],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        max_length: int | None = None,
        min_length: int = 0,
        no_repeat_ngram_size: int = 0,
        batch_size: int = 64,
        window: int | None = None,
        replace_unknown: bool = False,
        dictionary: Mapping[str, str] | None = None,
        pieces: bool = False,
        remove_bpe: bool = False,
        long: LongLines = REFUSED,
    ) -> Iterator[tuple[str, float]]:
        """Draw a translation of every line as they come; yield (text, score) of each, in order.

        The score is the log-probability.  temperature and top_k as in scratchnmt.search.sample; the rest and the
        errors as in `stream`.  What line n gives depends on the seed and on n, but for rounding not on other lines.
        """
        search = self._sampling(max_length, seed, temperature=temperature, top_k=top_k, min_length=min_length,
                                no_repeat_ngram_size=no_repeat_ngram_size)
        write = writer(self.model, self.src_vocab, self.tgt_vocab, replace_unknown, dictionary, pieces, remove_bpe)
        return (drawn for (drawn,) in self._stream(lines, window, batch_size, search, write, long))

    def _beam(self, max_length: int | None, *, beam_size: int, length_penalty: float, n_best: int, **constraints: Any
              ) -> _Search:
        check_options(1, beam_size, length_penalty, n_best)
        return _Search(beam_size, _limit(max_length, **constraints), lambda batch, limits, _: beam_search(
            self.model, batch.src, batch.src_lengths, max_steps=limits, beam_size=beam_size,
            length_penalty=length_penalty, n_best=n_best, **constraints))

    def _sampling(self, max_length: int | None, seed: int, *, temperature: float, top_k: int, **constraints: Any
                  ) -> _Search:
        check_sampling(temperature, top_k)
        if seed < 0:
            raise InputError(f"seed must be at least 0, not {seed}")

        def find(batch: Batch, limits: Any, numbers: list[int]) -> list[list[Hypothesis]]:
            rng = [np.random.default_rng([seed, n]) for n in numbers]
            drawn = sample(self.model, batch.src, batch.src_lengths, max_steps=limits, rng=rng,
                           temperature=temperature, top_k=top_k, **constraints)
            return [[hypothesis] for hypothesis in drawn]

        return _Search(1, _limit(max_length, **constraints), find)

    def _stream(self, lines, window, batch_size, search, write, long) -> Iterator[list[tuple[str, float]]]:
        """(text, score) of what is found for each line; everything is checked before a line is read."""
        _check_lines(batch_size, lines)
        if window is not None and window < 1:
            raise InputError(f"window must be at least 1, not {window}")
        return self._by_windows(enumerate(lines, start=1), window, batch_size, search, write, long)

    def _by_windows(self, lines, window, batch_size, search, write: Writer, long
                    ) -> Iterator[list[tuple[str, float]]]:
        """Several processes read a window each at once, so that the batches are those of one process."""
        window, at_once = (window, 1) if window else (_WINDOW * batch_size, self.ranks.size * self.workers)
        while taken := list(islice(lines, window * at_once)):
            encoded = [_Line(n, line, self._encode(line, f"line {n}", search, long)) for n, line in taken]
            for line in encoded:
                self.seen[0].add(line.text, line.ids)
            cut = (self._cut(encoded[at : at + window], batch_size, search) for at in range(0, len(encoded), window))
            batches = list(chain.from_iterable(cut))

            def translate(batch: list[_Line]) -> list[list[tuple[str, float]]]:
                hypotheses = self._search([line.ids for line in batch], batch_size, search,
                                          [line.number for line in batch])
                return [[(write(line.text, one), one.score) for one in some]
                        for line, some in zip(batch, hypotheses, strict=True)]

            results = self._each(batches, translate, search.beam_size * sum(len(line.ids) for line in encoded))
            translations = {line.number: result for batch, some in zip(batches, results, strict=True)
                            for line, result in zip(batch, some, strict=True)}
            for line in encoded:
                yield translations.get(line.number) or [("", 0.0)]

    def _each(self, batches: list[Any], work: Callable[[Any], Any], tokens: int) -> list[Any]:
        """What `work` returns for each batch, by the ranks and as many of their workers as so many tokens pay for."""
        workers = min(self.workers, int(tokens / self.ranks.size * self.model.params.flat.size / _PAYS) + 1)
        return each(self.ranks, batches, work, workers, stopped="translation stopped")

    def _cut(self, lines: list[_Line], batch_size, search) -> Iterator[list[_Line]]:
        """Batches of those that are not blank, ascending in length."""
        order = sorted((i for i, line in enumerate(lines) if line.ids), key=lambda i: len(lines[i].ids))
        sizes = [self._search_size(len(line.ids), search) for line in lines]
        return ([lines[i] for i in chosen] for chosen in _batches(order, sizes, batch_size))

    def _search(self, sentences, batch_size, search, numbers=(1,)) -> list[list[Hypothesis]]:
        """What is found for each sentence of a batch."""
        batch = make_batch(sentences, [[] for _ in sentences])
        limits = [search.limit(S) for S in batch.src_lengths.tolist()]
        try:
            return search.find(batch, limits, numbers)
        except MemoryError as error:
            beam = f", or beam_size, now {search.beam_size}" if search.beam_size > 1 else ""
            raise InputError(f"out of memory ({error}) in the search of {len(sentences)} sentences of up to "
                             f"{batch.src_lengths.max()} tokens; lower batch_size, now {batch_size}{beam}"
                             ) from error

    def _encode(self, line, name, search, long: LongLines) -> list[int]:
        """The ids of a line, none if it is skipped; an error or a warning calls it `name`."""
        ids = self.src_vocab.encode(line)
        most, why = self._most_source(len(ids), long)
        if self._search_size(most, search) > _MEMORY:
            most = bisect_right(range(most), _MEMORY, key=lambda S: self._search_size(S, search)) - 1
            why = (f"a search with beam_size {search.beam_size} and max_length {search.limit(len(ids)):,} may keep "
                   f"{self._search_size(len(ids), search) / 2**20:,.0f} MB of attention weights, the limit is "
                   f"{_MEMORY >> 20} MB")
        return ids if len(ids) <= most else ids[: long.decide(f"{name} has {len(ids):,} tokens: {why}", most) or 0]

    def _most_source(self, S: int, long: LongLines) -> tuple[int, str]:
        """How many of a source's S tokens may be used, memory aside, and why no more."""
        limits = [(S, "")]
        if long.most is not None:
            limits.append((long.most, f"max_length is {long.most:,}"))
        if (positions := longest_source(self.model)) is not None:
            limits.append((positions, f"score 'location' knows {positions:,} positions"))
        return min(limits, key=lambda limit: limit[0])

    def _search_size(self, S: int, search) -> int:
        """Bytes of the attention weights (T, K, S) that the search of a sentence of S tokens keeps, at most."""
        return search.beam_size * S * search.limit(S) * self.model.params.flat.itemsize

    def score(self, src_lines: Iterable[str], tgt_lines: Iterable[str], **options: Any) -> list[ScoredTranslation]:
        """How probable each line of tgt_lines is as the translation of the same line of src_lines.

        Options and errors as in `stream_scores`.
        """
        return list(self.stream_scores(src_lines, tgt_lines, **options))

    def stream_scores(self, src_lines: Iterable[str], tgt_lines: Iterable[str], *, batch_size: int = 64,
                      pieces: bool = False, long: LongLines = REFUSED) -> Iterator[ScoredTranslation]:
        """The scores of pairs of lines, in order, some batches at a time; all lines are checked before the first.

        No search (forced decoding): the score of a translation that ended is the score with which the search found
        it, if it has the tokens that were found.  With words it has; SentencePiece cuts a text in its own way, while a
        search may find other pieces that spell the same, whose score this then is not.  pieces: tgt_lines are tokens
        with spaces between, as `stream(..., pieces=True)` gives them, and scored as they are.

        A blank line is the empty translation, only </s>; of a blank line it is what `stream` makes of it, no tokens
        and a score of 0.  long: what becomes of a pair with a side of more tokens than it allows, a source of more than
        the model knows positions for, or more of both than fit into memory: cropped, on both sides, to what long.most
        allows, and else in the source; skipped, with no tokens and a score of NaN; or refused.

        Raises InputError for unequal numbers of lines and, with its number, for a line that is blank in the source
        alone, for one that is too long, if such lines are refused, and for what is no piece.
        """
        _check_lines(batch_size, src_lines, tgt_lines)
        pairs = self._encode_pairs(list(src_lines), list(tgt_lines), pieces)
        for n, (src, tgt) in enumerate(pairs, start=1):
            if tgt and not src:
                raise InputError(f"line {n} is blank in the source and not in the target: it can be no translation")
        return self._scored([self._fit_pair(n, *pair, long) for n, pair in enumerate(pairs, start=1)], batch_size)

    def perplexity(self, src_lines: Sequence[str], *references: Sequence[str], batch_size: int = 64,
                   long: LongLines = REFUSED) -> float:
        """exp of the mean nats per token of the references, </s> included, of the pairs that are blank on no side.

        long and the errors as in `stream_scores`; InputError, too, if no pair is left.
        """
        _check_lines(batch_size, src_lines, *references)
        pairs = (self._encode_pairs(list(src_lines), list(tgt_lines), pieces=False) for tgt_lines in references)
        fitting = [self._fit_pair(n, *pair, long) for some in pairs for n, pair in enumerate(some, start=1)
                   if all(pair)]
        return perplexity_of((-scored.score, len(scored.tokens)) for scored in self._scored(fitting, batch_size)
                             if scored.tokens)

    def _scored(self, pairs: list[tuple[list[int], list[int]] | None], batch_size: int) -> Iterator[ScoredTranslation]:
        """The scores of encoded pairs, in order; None is one that is skipped."""
        for start in range(0, len(pairs), _WINDOW * batch_size):
            window = pairs[start : start + _WINDOW * batch_size]
            results = [ScoredTranslation(0.0 if pair else nan, [], []) for pair in window]
            some = {i: pair for i, pair in enumerate(window) if pair and pair[0]}
            order = sorted(some, key=lambda i: len(some[i][1]))
            longest = accumulate((len(some[i][0]) for i in order), max)  # so that these sizes ascend, too
            sizes = {i: self._score_size(S, len(some[i][1])) for i, S in zip(order, longest, strict=True)}
            batches = list(_batches(order, sizes, batch_size))
            scored = self._each([[some[i] for i in chosen] for chosen in batches],
                                lambda pairs: self._token_scores(pairs, batch_size),
                                sum(len(tgt) for _, tgt in some.values()))
            for chosen, found in zip(batches, scored, strict=True):
                for i, scores in zip(chosen, found, strict=True):
                    tokens = [*map(self.tgt_vocab.token, some[i][1]), SPECIALS[EOS]]
                    results[i] = ScoredTranslation(sum(scores), tokens, scores)
            yield from results

    def _encode_pairs(self, src_lines: list[str], tgt_lines: list[str], pieces: bool
                      ) -> list[tuple[list[int], list[int]]]:
        """The ids of both sides; InputError for unequal numbers of lines, and for what is no piece."""
        if len(src_lines) != len(tgt_lines):
            raise InputError(f"{len(src_lines)} source lines and {len(tgt_lines)} target lines: line n of one must "
                             "be the translation of line n of the other")
        tgt_ids = ids_of_pieces(self.tgt_vocab, tgt_lines) if pieces else map(self.tgt_vocab.encode, tgt_lines)
        pairs = list(zip(map(self.src_vocab.encode, src_lines), tgt_ids, strict=True))
        for n, (src, tgt) in enumerate(pairs):
            self.seen[0].add(src_lines[n], src)
            if not pieces:
                self.seen[1].add(tgt_lines[n], tgt)
        return pairs

    def _fit_pair(self, n: int, src: list[int], tgt: list[int], long: LongLines) -> tuple[list[int], list[int]] | None:
        """A pair that is not too long, or what `long` makes of it: None if it is skipped."""
        most, why = self._most_source(len(src), long)
        most_tgt = len(tgt) if long.most is None else min(len(tgt), long.most)
        fits = _MEMORY // self._score_size(1, most_tgt)
        if fits < most:
            size = self._score_size(len(src), len(tgt)) / 2**20
            most, why = fits, (f"its score may take {size:,.0f} MB of attention weights, the limit is "
                               f"{_MEMORY >> 20} MB")
        if len(src) <= most and len(tgt) <= most_tgt:
            return src, tgt
        why = why or f"max_length is {long.most:,}"
        told = f"line {n} has {len(src):,} source and {len(tgt):,} target tokens: {why}"
        taken = f"{min(len(src), most):,} of the source and {min(len(tgt), most_tgt):,} of the target"
        return None if long.decide(told, most, taken) is None else (src[:most], tgt[:most_tgt])

    def _score_size(self, S: int, T: int) -> int:
        """Bytes of the attention weights of a pair of S and T tokens."""
        return S * (T + 1) * self.model.params.flat.itemsize

    def _token_scores(self, pairs: list[tuple[list[int], list[int]]], batch_size: int) -> list[list[float]]:
        """The log-probability of every target token, </s> included, of a batch of pairs."""
        batch = make_batch(*zip(*pairs, strict=True))
        try:
            scores = to_device(self.model.token_log_probs(batch.src, batch.src_lengths, batch.tgt), "cpu")
        except MemoryError as error:
            raise InputError(f"out of memory ({error}) in the scores of {len(pairs)} sentences of up to "
                             f"{batch.src_lengths.max()} tokens; lower batch_size, now {batch_size}") from error
        return [column[:length].tolist() for column, length in zip(scores.T, batch.tgt_lengths, strict=True)]

    def translate_with_attention(
        self, line: str, *, beam_size: int = 5, length_penalty: float = 0.0, max_length: int | None = None,
        min_length: int = 0, no_repeat_ngram_size: int = 0, long: LongLines = REFUSED,
    ) -> AttendedTranslation:
        """Translate one line and keep which source tokens each target token looked at; options as in `stream`.

        Raises InputError as `stream` does, and if the model has no attention.
        """
        if not attends(self.model):
            raise InputError("this model has no attention to show: its score is 'none'")
        search = self._beam(max_length, beam_size=beam_size, length_penalty=length_penalty, n_best=1,
                            min_length=min_length, no_repeat_ngram_size=no_repeat_ngram_size)
        ids = self._encode(line, "the sentence", search, long)
        ((best,),) = self._search([ids], 1, search) if ids else [[Hypothesis([], 0.0)]]
        tokens = [self.tgt_vocab.token(i) for i in best.value]
        attention = np.zeros((0, 0)) if best.attention is None else best.attention
        if len(attention) > len(tokens):
            tokens.append(SPECIALS[EOS])
        text = self.tgt_vocab.decode(best.value)
        return AttendedTranslation(text, self.src_vocab.tokens(line)[: len(ids)], tokens, attention)


def _check_lines(batch_size: int, *texts: Any) -> None:
    if any(isinstance(lines, str) for lines in texts):
        raise TypeError("lines must be a list of sentences, not one string")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")


def _batches(order: list[int], sizes: Any, batch_size: int) -> Iterator[list[int]]:
    """Cut `order`, ascending in size, so that no batch's B times its largest size is above the limit."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == batch_size or (len(batch) + 1) * sizes[i] > _MEMORY):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _limit(max_length: int | None, min_length: int, no_repeat_ngram_size: int) -> Callable[[int], int]:
    """The most tokens of a translation, by the length of its source; InputError for constraints that cannot be met."""
    if max_length is None:
        check_constraints(min_length, no_repeat_ngram_size)
        return lambda S: max(2 * S, min_length) + 10
    if max_length < 1:
        raise InputError(f"max_length must be at least 1, not {max_length}")
    check_constraints(min_length, no_repeat_ngram_size, max_length=max_length)
    return lambda S: max_length
