"""Clauses of the toy grammar in both languages: word order, forms of verbs and participles, spelling."""

from __future__ import annotations

from .toy_phrases import NOTHING, Phrase
from .toy_words import VOWELS, Verb

WAS = ("was", "were")
_PRESENT = {"être": ("suis", "est", "sommes", "sont"), "avoir": ("ai", "a", "avons", "ont")}
_IMPERFECT = {
    "être": ("étais", "était", "étions", "étaient"),
    "avoir": ("avais", "avait", "avions", "avaient"),
}
_ADVERBS = {
    "plain": ("", ""),
    "ask": ("", ""),
    "not": ("not", "pas"),
    "never": ("never", "jamais"),
    "often": ("often", "souvent"),
}
_ELIDED = {"le": "l'", "la": "l'", "de": "d'", "ne": "n'", "je": "j'", "me": "m'", "que": "qu'"}
_BEFORE_VOWEL = {**_ELIDED, "ce": "cet", "ma": "mon", "sa": "son"}
_CONTRACTED = {("à", "le"): "au", ("à", "les"): "aux", ("de", "le"): "du", ("de", "les"): "des"}


def _form(subject: Phrase) -> int:
    """Index of a French verb's form: je, il, nous, ils."""
    return 2 * subject.plural + (subject.person == 3)


def be(subject: Phrase, verb: str, rest: Phrase, mode: str, past: bool) -> tuple[str, str]:
    """A sentence with "is": "être" with an adjective or a place, "avoir" in "is hungry": "a faim"."""
    am = "am" if subject.en == "i" else "are" if subject.plural else "is"
    was = WAS[subject.plural] if past else am
    finite = (_IMPERFECT if past else _PRESENT)[verb][_form(subject)]
    if mode == "ask":
        return f"{was} {subject.en} {rest.en} ?", f"est-ce que {subject.fr} {finite} {rest.fr} ?"
    if mode == "not":
        return f"{subject.en} {was} not {rest.en} .", f"{subject.fr} ne {finite} pas {rest.fr} ."
    return f"{subject.en} {was} {rest.en} .", f"{subject.fr} {finite} {rest.fr} ."


def clause(
    subject: Phrase, verb: Verb, rest: Phrase, mode: str, past: bool, pronoun: Phrase = NOTHING
) -> tuple[str, str]:
    """A sentence: in English, pronoun and rest follow the verb; in French the pronoun stands before it."""
    third = subject.person == 3 and not subject.plural
    do = "did" if past else "does" if third else "do"
    form = verb.past if past else verb.third if third else verb.base
    verb_en = f"{do} not {verb.base}" if mode == "not" else f"{_ADVERBS[mode][0]} {form}"
    finite, participle = verb.french[_form(subject)], ""
    if past:
        finite = _PRESENT[verb.auxiliary][_form(subject)]
        agreeing = subject if verb.auxiliary == "être" else pronoun
        participle = verb.participle + "e" * (agreeing.gender == "f")
        participle += "s" * (agreeing.plural and not participle.endswith("s"))
    ne = "ne" if mode in ("not", "never") else ""
    fr = f"{subject.fr} {ne} {pronoun.fr} {finite} {_ADVERBS[mode][1]} {participle} {rest.fr}"
    verb_rest = verb.particle, pronoun.en, rest.en
    if mode == "ask":
        return " ".join((do, subject.en, verb.base, *verb_rest, "?")), f"est-ce que {fr} ?"
    return " ".join((subject.en, verb_en, *verb_rest, ".")), f"{fr} ."


def spell_english(sentence: str) -> str:
    """Single spaces, and "an" before a vowel."""
    words = sentence.split()
    pairs = zip(words, [*words[1:], "."], strict=True)
    return " ".join("an" if word == "a" and after[0] in "aeiou" else word for word, after in pairs)


def spell_french(sentence: str) -> str:
    """Elide, change forms before a vowel, contract: "de le homme": "de l' homme", "de le chat": "du chat"."""
    words = sentence.split()
    spelled = [words.pop()]
    for word in reversed(words):
        if spelled[-1].startswith(VOWELS):
            word = _BEFORE_VOWEL.get(word, word)
        if (word, spelled[-1]) in _CONTRACTED:
            word = _CONTRACTED[word, spelled.pop()]
        spelled.append(word)
    return " ".join(reversed(spelled))
