"""Scores as papers give them, side by side: the same translations have a BLEU for each measure.

    BLEU                            sacreBLEU's own tokens, case counts (Post 2018): what should be quoted
    BLEU, lower-cased               the same, but case does not count
    BLEU, lower-cased Moses tokens  as multi-bleu.perl counts, and papers on Multi30k (Caglayan et al. 2017): both sides
                                    lower-cased, punctuation normalised, cut by Moses' tokenizer
    chrF                            characters and n-grams of them (Popović 2015)

Scores of different measures do not compare.  Each has its interval of 95 per cent by sacreBLEU's bootstrap (Koehn
2004), and two systems a p-value by its paired bootstrap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from .errors import InputError, require, shown
from .metrics import tokenizer_for, without_blank

SAMPLES = 1000  # of the bootstrap


class PaperScore(NamedTuple):
    """One system by one measure, from 0 to 100."""

    measure: str
    score: float
    low: float  # the interval of 95 per cent
    high: float
    p: float | None  # how often chance makes such a difference from the first, if both are as good; None of the first
    signature: str  # what the score depends on


class _Measure(NamedTuple):
    name: str
    metric: Callable[[], Any]  # of sacreBLEU
    prepare: Callable[[str], str]  # of a line
    before: str = ""  # what the signature does not say


def paper_scores(systems: Mapping[str, Sequence[str]], *references: Sequence[str], tokenize: str = "auto",
                 language: str = "en") -> dict[str, list[PaperScore]]:
    """The scores of each system's translations, the first of which the others are compared with.

    tokenize: as of `corpus_bleu`.  language: of the references, for Moses' tokenizer, two letters; text in a script
    without spaces has no score by it.  Raises InputError if sacremoses is not installed, or numbers of lines differ.
    """
    for name, lines in systems.items():
        if {len(lines)} != {len(one) for one in references} or not lines:
            raise InputError(f"{name} has {len(lines)} translations, expected one for each line of the references, and "
                             "at least one")
    scores: dict[str, list[PaperScore]] = {name: [] for name in systems}
    for measure in _measures(tokenizer_for(chain(*references), tokenize), language):
        for name, score in _by_measure(measure, systems, references).items():
            scores[name].append(score)
    return scores


def check_measures(references: Sequence[Sequence[str]], tokenize: str, language: str) -> None:
    """InputError if one of the measures cannot be had: before an hour of translating, not after it."""
    _measures(tokenizer_for(chain(*references), tokenize), language)


def _measures(tokenize: str, language: str) -> list[_Measure]:
    sacrebleu = require("sacrebleu", extra="train")

    def bleu(**options: Any) -> Callable[[], Any]:
        return lambda: sacrebleu.BLEU(force=True, **options)

    measures = [_Measure("BLEU", bleu(tokenize=tokenize), str),
                _Measure("BLEU, lower-cased", bleu(tokenize=tokenize, lowercase=True), str)]
    if tokenize in ("13a", "intl", "none"):
        tokens, version = _moses(language)
        measures.append(_Measure("BLEU, lower-cased Moses tokens", bleu(tokenize="none"), tokens,
                                 f"sacremoses:{version}|lang:{language}|lowercased|"))
    return [*measures, _Measure("chrF", sacrebleu.CHRF, str)]


def _moses(language: str) -> tuple[Callable[[str], str], str]:
    """A line as lower-cased Moses tokens, and the version of sacremoses."""
    if not re.fullmatch("[a-z]{2}", language):
        raise InputError(f"language is {shown(language)}, expected two letters, as in de")
    sacremoses = require("sacremoses", extra="paper")
    normalizer, tokenizer = sacremoses.MosesPunctNormalizer(language), sacremoses.MosesTokenizer(language)
    return lambda line: tokenizer.tokenize(normalizer.normalize(line.lower()), return_str=True), sacremoses.__version__


def _by_measure(measure: _Measure, systems: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]
                ) -> dict[str, PaperScore]:
    from sacrebleu.significance import PairedTest

    prepared = {name: list(map(measure.prepare, lines)) for name, lines in systems.items()}
    gold: Any = without_blank([list(map(measure.prepare, lines)) for lines in references])
    # with one system: its interval, and no test
    test = PairedTest(list(prepared.items()), {measure.name: measure.metric()}, gold, test_type="bs", n_samples=SAMPLES)
    signatures, results = test()
    (signature,), (_, of_systems) = signatures.values(), results.values()  # names come before them
    first = next(iter(prepared.values()))
    scores: dict[str, PaperScore] = {}
    for (name, lines), result in zip(prepared.items(), of_systems, strict=True):
        assert not isinstance(result, str) and result.mean is not None and result.ci is not None
        if not scores:
            p = None
        elif lines == first:
            p = 1.0  # sacreBLEU counts no draw where nothing differs
        else:
            p = result.p_value
        low, high = result.mean - result.ci, result.mean + result.ci
        scores[name] = PaperScore(measure=measure.name, score=float(result.score), low=max(0.0, float(low)),
                                  high=min(100.0, float(high)), p=p, signature=measure.before + str(signature))
    return scores
