"""Subword sampling: each sentence is cut into pieces anew in every epoch (Kudo 2018, "Subword Regularization", 3.3).

A unigram model gives the pieces x = x_1 ... x_m of a text X the probability P(x) = p(x_1) ... p(x_m).  Of all
segmentations of X (Kudo's l = infinity) one is drawn, the more evenly the smaller alpha is:

    P(x | X)  =  P(x)^alpha / sum of P(x')^alpha over all segmentations x' of X                           (1)

No piece goes across a space, so that the words of X are drawn one by one.  Of a word of n characters, let beta[i] be
the sum of P(x)^alpha over the segmentations of what follows character i, filled from its end; a segmentation is then
drawn from its start, a piece x from i to j at a time:

    beta[n]  =  1,    beta[i]  =  sum of p(x)^alpha beta[j] over the pieces x from i to j                  (2)
    P(x | i) =  p(x)^alpha beta[j] / beta[i]                                                               (3)

The product of (3) over the pieces of a word is (1).  (Kudo's forward filtering and backward sampling is the same from
the other end.)  Nothing is stored for it: the best segmentation, which the corpus has, spells its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log

import numpy as np

from ..errors import InputError
from .corpus import Corpus, DrawnText, Flat, HasSides, apart
from .vocab import SPACE, SentencePieceVocabulary, Vocabulary

_AT_ONCE = 1 << 14  # pairs: a bound on the memory that their lengths take
_MOST = 1 << 24  # pieces of all lattices; above, they are made anew, as they are needed
_LONGEST = 512  # characters of a piece, as SentencePiece's max_sentencepiece_length has it at most
_END = -1  # in the place of a node: the word is over


class Sampler:
    """Draws segmentations by the unigram models of two vocabularies; `epoch` gives the text of an epoch.

    alpha: of (1).  limits: most tokens of a source and of a target; a draw of more gives way to the best segmentation.
    Raises InputError if a vocabulary has no unigram model.
    """

    def __init__(self, corpus: Corpus, vocabularies: tuple[Vocabulary, Vocabulary], alpha: float,
                 limits: tuple[float, float] = (inf, inf)):
        src, tgt = check_unigram(*vocabularies)
        self.corpus, self.limits = corpus, limits
        self.src = Lattices(src, alpha)
        self.tgt = self.src if tgt is src else Lattices(tgt, alpha)

    def epoch(self, seeds: Sequence[int], text: HasSides | None = None) -> Sampled:
        """The text of the epoch (None: the corpus) as the seeds have it."""
        return Sampled(self, seeds, text or self.corpus)


class Sampled(DrawnText):
    """A corpus with its sentences cut in other ways, which depend on the seeds, the pair and the side alone."""

    def __init__(self, sampler: Sampler, seeds: Sequence[int], text: HasSides):
        self.sampler, self.text = sampler, text
        self.keys = np.random.SeedSequence(seeds).generate_state(2, np.uint64)  # of source and target

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """(N, 2) int64: source tokens, and target tokens with </s>."""
        indices = np.asarray(indices, np.int64)
        found = [np.stack([side.lengths for side in self.sides(indices[start : start + _AT_ONCE])], axis=1)
                 for start in range(0, len(indices), _AT_ONCE)]
        return np.concatenate([np.zeros((0, 2), np.int64), *found]) + [0, 1]

    def sides(self, indices: np.ndarray) -> list[Flat]:
        """Of source and target, as of `Corpus.sides`."""
        sampler = self.sampler
        drawn = []
        for lattices, key, best, limit in zip((sampler.src, sampler.tgt), self.keys, self.text.sides(indices),
                                              sampler.limits, strict=True):
            found = lattices.draw(best, nth_random(np.full(1, key), indices))
            drawn.append(_shorter(found, best, limit))
        return drawn


class Lattices:
    """The segmentations of words, and draws from them.

    A node is a place in a word, where a piece begins; its number is that of the word's first node and the place.  Every
    piece that may follow a node has a share of 2^32 by (3), and all stand in one ascending array, `shares`, as
    node * 2^32 + the beginning of its share: what a random number of 32 bits chooses there is found by halving.
    """

    def __init__(self, vocabulary: SentencePieceVocabulary, alpha: float):
        self.alpha, self.pieces = alpha, vocabulary.unigrams()
        self.texts = {id: text for text, (id, _) in self.pieces.items()}
        self.lengths = sorted(set(map(len, self.pieces)))
        self.fixed = np.ones(len(vocabulary), bool)  # what is no piece of the model: <unk>, a user symbol, a byte
        self.fixed[list(self.texts)] = False
        self.begins = self.fixed.copy()  # where a word begins; nowhere else if some piece goes on behind a space
        if not any(SPACE in text[1:] for text in self.pieces):
            self.begins[[id for id, text in self.texts.items() if text.startswith(SPACE)]] = True
        self._forget()

    def _forget(self) -> None:
        self.words: dict[bytes, int] = {}  # the ids of a word in its best segmentation -> its first node
        self.nodes = 0
        self.shares, self.ids, self.next = np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def draw(self, best: Flat, streams: np.ndarray) -> Flat:
        """Another segmentation of each sentence, given by its best one; streams: (B,) uint64, random, one for each."""
        sentence = np.repeat(np.arange(len(best.lengths)), best.lengths)
        begins = self._begins(best)
        words, sentence = np.flatnonzero(begins), sentence[begins]
        node = self._first_nodes(best.ids, words)
        number = np.arange(len(words)) - np.searchsorted(sentence, sentence)  # of a word in its sentence
        stream = nth_random(streams[sentence], number)
        word = np.arange(len(words))
        found: list[tuple[np.ndarray, np.ndarray]] = []  # words, and a piece of each
        while len(word):  # a piece of each word that is not over
            chance = nth_random(stream[word], len(found)) >> np.uint64(32)
            piece = np.searchsorted(self.shares, node.astype(np.uint64) << np.uint64(32) | chance, side="right") - 1
            found.append((word, self.ids[piece]))
            node = self.next[piece]
            word, node = word[node != _END], node[node != _END]
        owner, ids = (np.concatenate([part[i] for part in found] or [word]) for i in (0, 1))
        lengths = np.bincount(sentence[owner], minlength=len(best.lengths))
        return Flat(ids[np.argsort(owner, kind="stable")], lengths)

    def _begins(self, best: Flat) -> np.ndarray:
        """Where words begin, and tokens that stay what they are."""
        begins = self.begins[best.ids]
        begins[1:] |= self.fixed[best.ids[:-1]]
        begins[(np.cumsum(best.lengths) - best.lengths)[best.lengths > 0]] = True
        return begins

    def _first_nodes(self, ids: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Of the words that begin at these places of `ids`; those that are new become lattices."""
        if len(self.shares) > _MOST:
            self._forget()
        data, width = ids.astype(np.uint32).tobytes(), 4
        ends = [*words[1:].tolist(), len(ids)]
        keys = [data[width * start : width * end] for start, end in zip(words.tolist(), ends, strict=True)]
        self._add([key for key in dict.fromkeys(keys) if key not in self.words])
        return np.fromiter(map(self.words.__getitem__, keys), np.int64, len(keys))

    def _add(self, keys: list[bytes]) -> None:
        """Make the lattices of new words."""
        pieces: list[tuple[int, int, int]] = []
        for key in keys:
            self.words[key] = self.nodes
            self.nodes += self._append(np.frombuffer(key, np.uint32).tolist(), pieces)
        if pieces:
            shares, ids, following = zip(*pieces, strict=True)
            self.shares = np.concatenate([self.shares, np.array(shares, np.uint64)])
            self.ids = np.concatenate([self.ids, np.array(ids, np.int64)])
            self.next = np.concatenate([self.next, np.array(following, np.int64)])

    def _append(self, ids: list[int], pieces: list[tuple[int, int, int]]) -> int:
        """Append share, id and next node of the pieces of a word; how many nodes it has."""
        if self.fixed[ids[0]]:
            pieces.append((self.nodes << 32, ids[0], _END))
            return 1
        nodes = self._lattice("".join(self.texts[id] for id in ids))
        for place, (log_beta, following) in enumerate(nodes):
            below = 0.0
            for id, end, weight in following:
                share = min(int(below * 2**32), 2**32 - 1)
                pieces.append((self.nodes + place << 32 | share, id, _END if end == len(nodes) else self.nodes + end))
                below += exp(weight - log_beta)  # (3)
        return len(nodes)

    def _lattice(self, text: str) -> list[tuple[float, list[tuple[int, int, float]]]]:
        """For each place of a word: log beta, and id, end and log of the summand in (2) of the pieces from there."""
        size, nodes = len(text), []
        log_beta = [-inf] * size + [0.0]  # (2)
        for start in reversed(range(size)):
            following = []
            for length in self.lengths:
                if (end := start + length) > size:
                    break
                piece = self.pieces.get(text[start:end])
                if piece and log_beta[end] > -inf:
                    following.append((piece[0], end, self.alpha * piece[1] + log_beta[end]))
            log_beta[start] = _log_sum([weight for _, _, weight in following])  # (2)
            nodes.append((log_beta[start], following))
        return nodes[::-1]


def check_unigram(src_vocab: Vocabulary, tgt_vocab: Vocabulary
                  ) -> tuple[SentencePieceVocabulary, SentencePieceVocabulary]:
    """The two; InputError for one that gives no probabilities to draw by."""
    return _unigram("source", src_vocab), _unigram("target", tgt_vocab)


def _unigram(side: str, vocabulary: Vocabulary) -> SentencePieceVocabulary:
    if not isinstance(vocabulary, SentencePieceVocabulary):
        what = "words"
    elif not vocabulary.is_unigram:
        what = "BPE"
    elif not (pieces := vocabulary.unigrams()):
        what = "pieces without probabilities"
    elif max(map(len, pieces)) > _LONGEST:
        what = f"pieces of more than {_LONGEST} characters, which SentencePiece does not make"
    else:
        return vocabulary
    raise InputError(f"subword_sampling draws by the probabilities of a unigram model, and the {side} vocabulary is "
                     f"one of {what}: choose a vocabulary of --vocab unigram, or leave it out")


def nth_random(streams: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """The n-th number, from 0, of SplitMix64 generators with these states (Steele, Lea & Flood 2014); all uint64."""
    z = streams + np.asarray(n + 1, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _shorter(drawn: Flat, best: Flat, limit: float) -> Flat:
    """What was drawn, but the best segmentation of sentences of which more tokens than `limit` were."""
    if not (long := drawn.lengths > limit).any():
        return drawn
    chosen = [b if instead else d for instead, b, d in zip(long, apart(best), apart(drawn), strict=True)]
    return Flat(np.concatenate(chosen), np.where(long, best.lengths, drawn.lengths))


def _log_sum(logs: list[float]) -> float:
    """log of the sum of exp; -inf of nothing."""
    most = max(logs, default=-inf)
    return most if most == -inf else most + log(sum(exp(x - most) for x in logs))
