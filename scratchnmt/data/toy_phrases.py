"""Noun phrases and clauses of the toy grammar in both languages: agreement, word order, forms of verbs, spelling."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from .toy_words import ADJECTIVES, DETERMINERS, NOUNS, PLACES, VOWELS, Noun, Verb


class Phrase(NamedTuple):
    """A part of a sentence in both languages, and what verbs and adjectives must agree with."""

    en: str
    fr: str  # not yet elided or contracted: "de le homme"
    gender: str = "m"
    plural: bool = False
    person: int = 3


NOTHING = Phrase("", "")
HE, SHE = Phrase("he", "il"), Phrase("she", "elle", "f")
PRONOUNS = (Phrase("i", "je", person=1), Phrase("we", "nous", plural=True, person=1), HE, SHE)
HIM, HER, THEM = Phrase("him", "le"), Phrase("her", "la", "f"), Phrase("them", "les", plural=True)
ME, US = Phrase("me", "me"), Phrase("us", "nous")  # not where a participle would show who they are
TO_HIM, TO_HER, TO_THEM = Phrase("him", "lui"), Phrase("her", "lui"), Phrase("them", "leur")
WHO = Phrase("who", "qui")

DEFINITE = ("the", "the", "the", "this", "my", "our", "his", "her")
CONTEXTS = {
    "definite": DEFINITE,
    "subject": (*DEFINITE, "a", "a", "some", "two", "three"),
    "asked": (*DEFINITE, "a", "a"),
    "object": (*DEFINITE, "a", "a", "a", "some", "some", "two", "three"),
    "negated": (*DEFINITE, "a", "a", "any"),
}


class PhraseBook:
    """Draws words and phrases at random; the same seed gives the same sequence."""

    def __init__(self, seed: int):
        self._random = Random(seed).random  # the one method whose sequence Python promises to keep

    def pick(self, options):
        return options[int(self._random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def noun(self, *kinds: str) -> Noun:
        return self.pick([noun for noun in NOUNS.values() if noun.kind in kinds])

    def noun_phrase(self, noun: Noun, context: str) -> Phrase:
        """The noun with a determiner that suits the context, and perhaps adjectives or an owner."""
        if noun.kind not in ("person", "relative") and self.chance(0.12):
            return self.owned(noun)
        plural = noun.en_plural != "-" and self.chance(0.35)
        determiners = [d for d in CONTEXTS[context] if _suits(d, noun, plural)]
        return self.build(self.pick(determiners), noun, plural, context)

    def build(self, determiner: str, noun: Noun, plural: bool, context: str) -> Phrase:
        """The noun with this determiner and up to two adjectives, a colour being the second."""
        form = 2 * plural + (noun.gender == "f")
        before, after, adjectives = "", "", []
        if noun.adjectives and self.chance(0.4):
            adjectives.append(self.pick(noun.adjectives))
            colours = [a for a in noun.adjectives if ADJECTIVES[a].colour]
            if colours and ADJECTIVES[adjectives[0]].before and self.chance(0.4):
                adjectives.append(self.pick(colours))
        for adjective in adjectives:
            if ADJECTIVES[adjective].before:
                before = ADJECTIVES[adjective].before_noun(form, noun.fr)
            else:
                after = ADJECTIVES[adjective].forms[form]
        article = DETERMINERS[determiner][form]
        if (context == "negated" and determiner == "a") or (article == "des" and before):
            article = "de"
        noun_en, noun_fr = (noun.en_plural, noun.fr_plural) if plural else (noun.en, noun.fr)
        en = " ".join((_this_or_these(determiner, plural), *adjectives, noun_en))
        fr = " ".join((article, before, noun_fr, after))
        return Phrase(en, fr, gender=noun.gender, plural=plural)

    def owned(self, noun: Noun) -> Phrase:
        """ "the girl 's red hat": "le chapeau rouge de la fille"."""
        owner = self.noun("person", "relative")
        determiners = [d for d in DEFINITE if _suits(d, owner, plural=False)]
        possessor = self.build(self.pick(determiners), owner, False, "definite")
        plural = noun.en_plural != "-" and self.chance(0.25)
        owned = self.build("the", noun, plural, "definite")
        en = f"{possessor.en} 's {owned.en.removeprefix('the ')}"
        return Phrase(en, f"{owned.fr} de {possessor.fr}", gender=noun.gender, plural=plural)

    def pair(self) -> Phrase:
        """Two people joined by "and": feminine only if both are."""
        determiner, kind = self.pick((("the", "person"), ("my", "relative"), ("our", "relative")))
        nouns = [noun for noun in NOUNS.values() if noun.kind == kind]
        first = nouns.pop(int(self._random() * len(nouns)))
        second = self.pick(nouns)
        en = f"{determiner} {first.en} and {determiner} {second.en}"
        fr = " et ".join(f"{DETERMINERS[determiner][n.gender == 'f']} {n.fr}" for n in (first, second))
        return Phrase(en, fr, "f" if first.gender == second.gender == "f" else "m", plural=True)

    def place(self, kind: str) -> Phrase:
        """Where a person, an animal or a thing may be: "under the table"."""
        en, fr, nouns = self.pick(PLACES[kind])
        where = self.noun_phrase(NOUNS[self.pick(nouns)], "definite")
        return Phrase(f"{en} {where.en}", f"{fr} {where.fr}")


def pronoun_for(what: Phrase, noun: Noun) -> Phrase:
    """The object pronoun that stands for a noun phrase: "him", "her", "it" or "them"."""
    if what.plural:
        return THEM._replace(gender=what.gender)
    if noun.kind in ("person", "relative"):
        return HER if what.gender == "f" else HIM
    return Phrase("it", DETERMINERS["the"][what.gender == "f"], what.gender)


def _suits(determiner: str, noun: Noun, plural: bool) -> bool:
    """Whether the determiner may stand with the noun in this number."""
    possessive = determiner in ("my", "our", "his", "her")
    if noun.kind == "relative":
        return possessive
    if noun.kind == "person" and possessive:
        return False  # "ma femme" is "my wife"
    if noun.kind == "mass":
        return determiner not in ("a", "two", "three")
    return determiner != "a" if plural else determiner not in ("some", "any", "two", "three")


def _this_or_these(determiner: str, plural: bool) -> str:
    return "these" if determiner == "this" and plural else determiner


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
