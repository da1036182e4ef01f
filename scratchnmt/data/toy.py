"""The demo's corpus: simple English sentences and their French translations, from a small grammar.

The grammar was written for this project, about a hundred words a side, to be learnt in a minute and yet
to need attention: adjectives follow their noun ("the red hat": "le chapeau rouge"), owners follow what they
own ("the girl 's dog": "le chien de la fille"), object pronouns stand before the verb and take the gender
of a noun further back ("buys a cake and eats it": "achète un gâteau et le mange"), negation surrounds the
verb ("ne ... pas"), and articles, adjectives and participles agree.  Sentences are lower-case tokens
between spaces, an elided word with its apostrophe being one ("l' eau est froide .").

Every English sentence has one translation.  Words whose French depends on what the sentence does not say
are left out: "you", "they", "it" without its noun, "friend", "I am tired" (spoken by a man or a woman?).
"""

from __future__ import annotations

from typing import NamedTuple

from .toy_grammar import (
    ADJECTIVES,
    HE,
    HER,
    HIM,
    ME,
    NOTHING,
    NOUNS,
    PRONOUNS,
    SHE,
    THEM,
    TO_HER,
    TO_HIM,
    TO_THEM,
    US,
    VERBS,
    WAS,
    WHO,
    Phrase,
    PhraseBook,
    Verb,
    be,
    clause,
    pronoun_for,
    spell_english,
    spell_french,
)  # fmt: skip

FEELINGS = ("tired", "sad", "happy", "sick")
SAME_FOR_BOTH_GENDERS = ("sad", "sick", "young")
LONGEST = 16  # tokens of a sentence, on either side


class Lines(NamedTuple):
    """Sentences and their translations, line by line."""

    src: list[str]
    tgt: list[str]


class ToyCorpus(NamedTuple):
    train: Lines
    valid: Lines
    test: Lines


def toy_corpus(seed: int = 0, train: int = 10000, valid: int = 500, test: int = 500) -> ToyCorpus:
    """Distinct sentence pairs, `train` + `valid` + `test` of them; no line occurs twice on either side.

    The same seed gives the same corpus.  ValueError if sizes are asked for that the grammar cannot fill.
    """
    grammar = Grammar(seed)
    pairs: dict[str, str] = {}
    translations: set[str] = set()
    wanted = train + valid + test
    if min(train, valid, test) < 0 or wanted > 200_000:
        raise ValueError(f"toy_corpus: sizes {train}, {valid}, {test}, expected 0 to 200000 together")
    while len(pairs) < wanted:
        en, fr = grammar.sentence()
        if en not in pairs and fr not in translations:
            pairs[en] = fr
            translations.add(fr)
    lines = list(pairs.items())
    bounds = [(0, test), (test, test + valid), (test + valid, wanted)]  # more training, same test
    test_lines, valid_lines, train_lines = (
        Lines([en for en, _ in lines[a:b]], [fr for _, fr in lines[a:b]]) for a, b in bounds
    )
    return ToyCorpus(train_lines, valid_lines, test_lines)


class Grammar(PhraseBook):
    """Draws sentence pairs at random; `sentence` gives the next."""

    def sentence(self) -> tuple[str, str]:
        """An English sentence and its French translation."""
        kinds = (
            self._quality, self._quality, self._hunger, self._whereabouts, self._where, self._there_is,
            self._act, self._act, self._act, self._arrival, self._deed, self._deed, self._deed, self._deed,
            self._pronoun_deed, self._pronoun_deed, self._pronoun_deed, self._gift, self._gift, self._gift,
            self._two_deeds, self._two_deeds, self._two_deeds, self._who, self._what, self._who_clause,
        )  # fmt: skip
        while True:
            en, fr = self.pick(kinds)()
            en, fr = spell_english(en), spell_french(fr)
            nouns = [word for word in en.split() if word in NOUNS]
            twice = len(nouns) > len(set(nouns))  # "the dog sees the dog"
            if not twice and max(len(en.split()), len(fr.split())) <= LONGEST:
                return en, fr

    def _mode(self, *more: str) -> str:
        """ "plain" half of the time, or "not", or "ask", or one of `more`."""
        return "plain" if self.chance(0.5) else self.pick(("not", "ask", *more))

    def _subject(self, mode: str, *kinds: str, pronouns=PRONOUNS) -> Phrase:
        """A pronoun, two nouns joined by "and", or a noun, as definite as the mode of the sentence asks."""
        people = "person" in kinds
        if people and pronouns and self.chance(0.35):
            return self.pick(pronouns)
        if people and self.chance(0.1):
            return self.pair()
        context = "subject" if mode == "plain" else "definite"
        return self.noun_phrase(self.noun(*kinds), context)

    def _transitive(self) -> Verb:
        return self.pick([v for v in VERBS.values() if v.objects and not v.gives])

    def _object(self, verb: Verb, mode: str) -> Phrase:
        context = {"not": "negated", "never": "negated", "ask": "asked"}.get(mode, "object")
        return self.noun_phrase(NOUNS[self.pick(verb.objects)], "definite" if verb.state else context)

    def _time(self, past: bool) -> Phrase:
        if self.chance(0.5):
            return NOTHING
        yesterday = past and self.chance(0.7)
        return Phrase("yesterday", "hier") if yesterday else Phrase("today", "aujourd'hui")

    # sentences of one kind each, before spelling

    def _quality(self):
        mode, past = self._mode(), self.chance(0.25)
        if self.chance(0.25):
            subject = self.pick((*PRONOUNS, HE, SHE))
            qualities = SAME_FOR_BOTH_GENDERS if subject.person == 1 else (*FEELINGS, "old", "young")
        elif self.chance(0.1):
            subject, qualities = self.pair(), FEELINGS
        else:
            noun = self.noun("person", "relative", "animal", "food", "mass", "thing", "large", "place")
            alive = noun.kind in ("person", "relative", "animal")
            ages = ("old", "young") if noun.kind == "relative" else ()
            qualities = (*noun.adjectives, *ages, *(FEELINGS if alive else ()))
            subject = self.noun_phrase(noun, "definite")
        adjective = self.pick(qualities)
        form = 2 * subject.plural + (subject.gender == "f")
        rest = Phrase(adjective, ADJECTIVES[adjective].forms[form])
        return be(subject, "être", rest, mode, past)

    def _hunger(self):
        mode = self._mode()
        subject = self._subject(mode, "person", "relative", "animal")
        rest = self.pick((Phrase("hungry", "faim"), Phrase("thirsty", "soif")))
        return be(subject, "avoir", rest, mode, self.chance(0.3))

    def _whereabouts(self):
        mode = self._mode()
        kind = self.pick(("person", "relative", "animal", "thing"))
        subject = self._subject("ask", kind)
        return be(subject, "être", self.place(kind.replace("relative", "person")), mode, self.chance(0.25))

    def _where(self):
        subject = self.noun_phrase(self.noun("relative", "animal", "thing", "place", "food"), "definite")
        en, fr = ("are", "sont") if subject.plural else ("is", "est")
        return f"where {en} {subject.en} ?", f"où {fr} {subject.fr} ?"

    def _there_is(self):
        past, kind = self.chance(0.3), self.pick(("person", "animal", "thing"))
        noun, plural, negated = self.noun(kind), self.chance(0.4), self.chance(0.4)
        determiner = self.pick(("some", "two", "three")) if plural and not negated else "a"
        if negated:
            what = self.build("a", noun, plural, "negated")
            what = what._replace(en="no " + what.en.removeprefix("a "))
        else:
            what = self.build(determiner, noun, plural, "object")
        place = self.place(kind)
        there_is = "there " + WAS[plural] if past else "there " + ("are" if plural else "is")
        has = "avait" if past else "a"
        il_y_a = f"il ne y {has} pas" if negated else f"il y {has}"
        return f"{there_is} {what.en} {place.en} .", f"{il_y_a} {what.fr} {place.fr} ."

    def _act(self):
        verb = self.pick([v for v in VERBS.values() if not v.objects and v.auxiliary == "avoir"])
        past = self.chance(0.35)
        mode = self._mode() if past else self._mode("often", "never")
        subject = self._subject(mode, *verb.subjects)
        rest = self.place("person") if self.chance(0.5) else self._time(past)
        return clause(subject, verb, rest, mode, past)

    def _arrival(self):
        """Verbs whose past is formed with "être", so that the participle agrees with the subject."""
        verb = self.pick([v for v in VERBS.values() if v.auxiliary == "être"])
        past, mode = self.chance(0.7), self._mode()
        subject = self._subject(mode, *verb.subjects, pronouns=(HE, SHE) if past else PRONOUNS)
        return clause(subject, verb, self._time(past), mode, past)

    def _deed(self):
        verb = self._transitive()
        past = not verb.state and self.chance(0.35)
        mode = self._mode() if past or verb.state else self._mode("often", "never")
        subject = self._subject(mode, *verb.subjects)
        return clause(subject, verb, self._object(verb, mode), mode, past)

    def _pronoun_deed(self):
        """ "she does not see him": "elle ne le voit pas"; in the past only where the gender is known."""
        verb = self.pick([v for v in VERBS.values() if v.people])
        past = not verb.state and self.chance(0.35)
        mode = self._mode() if past or verb.state else self._mode("often", "never")
        subject = self._subject(mode, *verb.subjects)
        first_person = () if past or subject.person == 1 else (ME, US)
        pronouns = (HIM, HER) if past else (HIM, HER, THEM, *first_person)
        return clause(subject, verb, NOTHING, mode, past, self.pick(pronouns))

    def _gift(self):
        """To a pronoun ("gives him a book"), to a noun, or with the noun first ("gives the boy a book")."""
        verb = self.pick([v for v in VERBS.values() if v.gives])
        past, mode = self.chance(0.4), self._mode()
        subject = self._subject(mode, *verb.subjects)
        what = self._object(verb, mode)
        if self.chance(0.4):
            first_person = () if subject.person == 1 else (ME, US)
            whom = self.pick((TO_HIM, TO_HER, TO_THEM, *first_person))
            return clause(subject, verb, what, mode, past, whom)
        whom = self.noun_phrase(self.noun("person", "relative"), "definite")
        en = f"{what.en} to {whom.en}" if self.chance(0.5) else f"{whom.en} {what.en}"
        return clause(subject, verb, Phrase(en, f"{what.fr} à {whom.fr}"), mode, past)

    def _two_deeds(self):
        """The pronoun's noun is in the sentence: "took the egg and ate it", "a pris l' œuf et l' a mangé"."""
        first = self.pick([v for v in VERBS.values() if v.then])
        second = VERBS[self.pick(first.then)]
        past, negated = self.chance(0.5), self.chance(0.4)
        subject = self._subject("plain", "person", "relative")
        noun = NOUNS[self.pick([name for name in first.objects if name in second.objects])]
        what = self.noun_phrase(noun, "object")
        it = pronoun_for(what, noun)
        en, fr = clause(subject, first, what, "plain", past)
        silent = subject._replace(en="", fr="")
        en_second, fr_second = clause(silent, second, NOTHING, "not" if negated else "plain", past, it)
        join_en, join_fr = ("but", "mais") if negated else ("and", "et")
        return f"{en[:-2]} {join_en} {en_second}", f"{fr[:-2]} {join_fr} {fr_second}"

    def _who(self):
        verb = self._transitive()
        past = not verb.state and self.chance(0.5)
        en, fr = clause(WHO, verb, self._object(verb, "ask"), "plain", past)
        return en[:-1] + "?", fr[:-1] + "?"

    def _what(self):
        verb = self.pick([VERBS[name] for name in ("eat", "drink", "buy", "sell", "see", "find", "take")])
        en, fr = clause(self._subject("ask", *verb.subjects), verb, NOTHING, "ask", self.chance(0.4))
        return f"what {en}", f"que {fr}"

    def _who_clause(self):
        """ "the man who sings is happy": "l' homme qui chante est heureux"."""
        who = self.build("the", self.noun("person"), self.chance(0.3), "definite")
        alone = VERBS[self.pick(("sing", "dance", "sleep", "work"))]
        verb = self._transitive() if self.chance(0.6) else alone
        rest = self._object(verb, "ask") if verb.objects else NOTHING
        en, fr = clause(who._replace(en="", fr=""), verb, rest, "plain", past=False)
        subject = who._replace(en=f"{who.en} who {en[:-2]}", fr=f"{who.fr} qui {fr[:-2]}")
        feeling = self.pick(FEELINGS)
        form = ADJECTIVES[feeling].forms[2 * who.plural + (who.gender == "f")]
        return be(subject, "être", Phrase(feeling, form), self.pick(("plain", "not")), past=False)
