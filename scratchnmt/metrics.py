"""How good a model is: perplexity of the references, and BLEU and chrF of translations by sacrebleu."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from math import exp, isfinite
from typing import Any, NamedTuple

from .data.batches import Batch
from .errors import InputError, check_choice, require

# how BLEU finds words: all of sacreBLEU's that download nothing, and "auto", the one that fits the references
TOKENIZERS = ("auto", "13a", "intl", "zh", "char", "none", "ja-mecab", "ko-mecab")
# scripts without spaces between words, as the names of their characters begin
_CHINESE = ("CJK",)
_KANA = ("HIRAGANA", "KATAKANA")
_OTHERS = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "JAVANESE", "BALINESE")


class Score(NamedTuple):
    """A score from 0 to 100 and what it depends on: sacreBLEU's signature, to be quoted with it."""

    score: float
    signature: str


def perplexity(model: Any, batches: Iterable[Batch]) -> float:
    """exp of the mean nats per target token, </s> included: teacher-forced, without dropout or smoothing.

    What is left of a finite number too large for a float is the largest power that fits.  InputError if there is no
    sentence.
    """
    return perplexity_of(loss(model, batch) for batch in batches)


def loss(model: Any, batch: Batch) -> tuple[float, int]:
    """Nats and tokens of a batch."""
    nats = model.nll(batch.src, batch.src_lengths, batch.tgt)
    tokens = int(batch.tgt_lengths.sum())
    return nats, tokens


def perplexity_of(losses: Iterable[tuple[float, int]]) -> float:
    """The perplexity of all batches, of whose losses this is; InputError if they have no token."""
    nats, tokens = map(sum, zip((0.0, 0), *losses, strict=True))
    if not tokens:
        raise InputError("perplexity needs at least one sentence")
    mean = nats / tokens
    return exp(min(mean, 700.0)) if isfinite(mean) else mean


def corpus_bleu(hypotheses: Sequence[str], *references: Sequence[str], tokenize: str = "auto") -> Score:
    """BLEU of detokenised translations against raw references, tokenised by sacreBLEU itself (Post 2018).

    Of several references each is a list, line by line; a blank line beside one with text is a reference fewer of that
    sentence.  tokenize: one of TOKENIZERS; "auto" is what `tokenizer_for` the references.

    Raises InputError where their numbers differ or are 0, if sacreBLEU or what a tokenizer needs is not installed.
    """
    tokenize = tokenizer_for(chain(*references), tokenize)
    return _score(_bleu(tokenize), hypotheses, references)


def chrf(hypotheses: Sequence[str], *references: Sequence[str]) -> Score:
    """chrF of detokenised translations against raw references (Popović 2015); errors as `corpus_bleu`."""
    return _score(require("sacrebleu", extra="train").CHRF(), hypotheses, references)


def sentence_scores(metric: str, hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "13a"
                    ) -> list[float]:
    """The score of each translation by itself against its reference, from 0 to 100, by sacreBLEU.

    metric: "bleu", smoothed (Chen & Cherry 2014, method 3) and of no longer n-grams than a sentence has, or "chrf".
    tokenize: of BLEU, one of TOKENIZERS but "auto".  Errors as `corpus_bleu`.
    """
    scorer = _bleu(tokenize, effective_order=True) if metric == "bleu" else require("sacrebleu", extra="train").CHRF()
    scores = [scorer.sentence_score(one, [reference]).score
              for one, reference in zip(hypotheses, references, strict=True)]
    _forget(getattr(scorer, "tokenizer", None))
    return scores


def check_tokenizer(name: str) -> None:
    """InputError if there is no tokenizer of this name, or if what it needs, sacreBLEU first, is not installed."""
    check_choice("tokenize", name, TOKENIZERS)
    _bleu("13a" if name == "auto" else name)


def tokenizer_for(references: Iterable[str], asked: str = "auto") -> str:
    """The tokenizer that was asked for, or, for "auto", the one that fits the script of the references.

    "zh" for Chinese, "char" for Japanese, Thai and the other scripts without spaces between words, "13a" for the rest.
    """
    return asked if asked != "auto" else _Writing.of(references).tokenizer


def unfit_tokenizer(references: Iterable[str], tokenize: str) -> str | None:
    """The one that fits instead, if `tokenize` looks for words between spaces and the references have none there."""
    writing = _Writing.of(references)
    by_spaces = tokenize in ("13a", "intl", "none", "zh")  # zh: all but Chinese characters
    return writing.tokenizer if by_spaces and writing.tokenizer != tokenize and writing.has_no_spaces else None


class _Writing(NamedTuple):
    """How a text is written: its characters of scripts without spaces between words, and the spaces that it has."""

    scripts: Counter[str]
    words: int  # what spaces separate
    lines: int

    @classmethod
    def of(cls, lines: Iterable[str]) -> _Writing:
        letters: Counter[str] = Counter()
        words = count = 0
        for line in lines:
            letters.update(line)
            words, count = words + len(line.split()), count + 1
        scripts: Counter[str] = Counter()
        for letter, times in letters.items():
            scripts[unicodedata.name(letter, "").partition(" ")[0]] += times
        return cls(Counter({name: scripts[name] for name in (*_CHINESE, *_KANA, *_OTHERS)}), words, count)

    @property
    def tokenizer(self) -> str:
        unspaced, chinese = self.scripts.total(), sum(self.scripts[name] for name in _CHINESE)
        if 2 * unspaced < self.words or not unspaced:  # a foreign name now and then
            return "13a"
        kana = sum(self.scripts[name] for name in _KANA)
        return "zh" if 2 * chinese > unspaced and 10 * kana < chinese else "char"

    @property
    def has_no_spaces(self) -> bool:
        """Whether the text is as such scripts are printed, not cut into words by a tokenizer: few spaces in a line."""
        return self.scripts.total() > 8 * (self.words - self.lines)


def _bleu(tokenize: str, **options: Any) -> Any:
    """sacreBLEU's metric; it must not warn of text that looks tokenised."""
    try:
        return require("sacrebleu", extra="train").BLEU(tokenize=tokenize, force=True, **options)
    except (RuntimeError, AssertionError) as error:  # MeCab or its dictionary
        language = tokenize.partition("-")[0]
        raise InputError(f"tokenize {tokenize} needs MeCab with sacreBLEU's dictionary: "
                         f"pip install 'sacrebleu[{language}]'") from error


def _score(metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    counts = {len(lines) for lines in references}
    if counts != {len(hypotheses)} or not hypotheses:
        told = " and ".join(map(str, sorted(counts))) or "no"
        raise InputError(f"{len(hypotheses)} translations and {told} references: "
                         "expected as many of one as of the other, and at least one")
    score = metric.corpus_score(list(hypotheses), without_blank(references)).score
    _forget(getattr(metric, "tokenizer", None))
    return Score(score, str(metric.get_signature()))


def without_blank(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """As sacreBLEU takes them: None where a sentence has a reference fewer than others."""
    rows = ([one if one.strip() or not any(map(str.strip, row)) else None for one in row]
            for row in zip(*references, strict=True))
    return [list(column) for column in zip(*rows, strict=True)]


def _forget(tokenizer: Any) -> None:
    """Empty sacreBLEU's caches, which keep the last 65,536 sentences: a training with many validations would grow."""
    for part in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        if clear := getattr(type(part).__call__, "cache_clear", None):
            clear()
