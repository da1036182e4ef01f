"""The toy grammar in both languages: words, with what may be said of what, and the phrases and clauses made of them.

Which adjectives and objects go with which word keeps the sentences sensible and, above all, the French
right: "a small boy" is "un petit garçon", but "my small brother" would have to be "mon petit frère", which
says "younger", and "a beautiful girl" "une belle fille", which may be a daughter-in-law.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

VOWELS = tuple("aeiouyhéèêœ")  # every h of these words is mute


class Noun(NamedTuple):
    en: str
    en_plural: str  # "-" for what is not counted, or is one to everybody
    fr: str
    fr_plural: str
    gender: str
    kind: str
    adjectives: tuple[str, ...]


class Adjective(NamedTuple):
    forms: tuple[str, str, str, str]  # masculine, feminine, masculine plural, feminine plural
    before: bool  # the noun, in French
    colour: bool
    before_vowel: str  # the masculine in "un bel oiseau"

    def before_noun(self, form: int, noun: str) -> str:
        return self.before_vowel if form == 0 and noun.startswith(VOWELS) else self.forms[form]


class Verb(NamedTuple):
    base: str
    third: str
    past: str
    particle: str  # "for" in "look for"
    french: tuple[str, str, str, str]  # je, il, nous, ils
    participle: str
    auxiliary: str
    subjects: tuple[str, ...]  # kinds of nouns
    objects: tuple[str, ...]  # nouns
    then: tuple[str, ...]  # verbs for "and ... it"
    gives: bool
    people: bool  # "him" can be its object
    state: bool  # not used in the past, where French would choose between two tenses


# English | French | gender and kind | adjectives
_NOUNS = """
man men | homme hommes | m person | old tired sad happy
woman women | femme femmes | f person | old young beautiful tired sad happy
boy boys | garçon garçons | m person | small tired sad happy
girl girls | fille filles | f person | small tired sad happy
father - | père - | m relative |
mother - | mère - | f relative |
brother brothers | frère frères | m relative |
sister sisters | sœur sœurs | f relative |
uncle uncles | oncle oncles | m relative |
aunt aunts | tante tantes | f relative |
dog dogs | chien chiens | m animal | small big old young black white dirty
cat cats | chat chats | m animal | small old young beautiful black white
bird birds | oiseau oiseaux | m animal | small beautiful blue red white black
horse horses | cheval chevaux | m animal | big old young beautiful black white tired
cow cows | vache vaches | f animal | old young black white
apple apples | pomme pommes | f food | small beautiful good red green
orange oranges | orange oranges | f food | small beautiful good cold
cake cakes | gâteau gâteaux | m food | beautiful good cold
egg eggs | œuf œufs | m food | small good white cold
bread - | pain - | m mass | good white hot cold
soup - | soupe - | f mass | good green hot cold
water - | eau - | f mass | hot cold clean dirty
milk - | lait - | m mass | good hot cold
book books | livre livres | m thing | small old good heavy expensive red green black
letter letters | lettre lettres | f thing | beautiful old
flower flowers | fleur fleurs | f thing | small beautiful red white blue
hat hats | chapeau chapeaux | m thing | small big old beautiful expensive black red green dirty
key keys | clé clés | f thing | small big old heavy
dress dresses | robe robes | f thing | old beautiful expensive black red white green blue clean dirty
table tables | table tables | f large | small big old beautiful heavy white black clean dirty
chair chairs | chaise chaises | f large | small old beautiful heavy red green white
car cars | voiture voitures | f large | small old beautiful expensive red green white clean dirty
tree trees | arbre arbres | m large | small big old beautiful green
house houses | maison maisons | f place | small big old beautiful white cold expensive clean
garden gardens | jardin jardins | m place | small big old beautiful green
kitchen - | cuisine - | f place | small big old cold clean dirty
school - | école - | f place | small big old beautiful white
"""

_ADJECTIVES = """
small | petit petite petits petites | before
big | grand grande grands grandes | before
beautiful | beau belle beaux belles | before bel
old | vieux vieille vieux vieilles | before vieil
young | jeune jeune jeunes jeunes | before
good | bon bonne bons bonnes | before
red | rouge rouge rouges rouges | colour
green | vert verte verts vertes | colour
blue | bleu bleue bleus bleues | colour
black | noir noire noirs noires | colour
white | blanc blanche blancs blanches | colour
hot | chaud chaude chauds chaudes |
cold | froid froide froids froides |
clean | propre propre propres propres |
dirty | sale sale sales sales |
heavy | lourd lourde lourds lourdes |
expensive | cher chère chers chères |
tired | fatigué fatiguée fatigués fatiguées |
sad | triste triste tristes tristes |
happy | heureux heureuse heureux heureuses |
sick | malade malade malades malades |
"""

_SETS = {
    "people": "person relative",
    "alive": "person relative animal",
    "PEOPLE": "man woman boy girl father mother brother sister uncle aunt",
    "ANIMALS": "dog cat bird horse cow",
    "FOOD": "apple orange cake egg bread soup",
    "GOODS": "apple orange cake egg bread book flower hat key dress table chair car dog horse cow",
    "THINGS": "book letter flower hat key dress apple orange",
    "SIGHTS": "car house garden",
    "ANYTHING": "PEOPLE ANIMALS THINGS",
}

# base third past (particle) | je il nous ils participle (être) | subjects | objects | then ... / marks
_VERBS = """
sleep sleeps slept | dors dort dormons dorment dormi | alive | |
sing sings sang | chante chante chantons chantent chanté | people | |
dance dances danced | danse danse dansons dansent dansé | people | |
work works worked | travaille travaille travaillons travaillent travaillé | people | |
play plays played | joue joue jouons jouent joué | people | |
cry cries cried | pleure pleure pleurons pleurent pleuré | people | |
arrive arrives arrived | arrive arrive arrivons arrivent arrivé être | alive | |
leave leaves left | pars part partons partent parti être | people | |
fall falls fell | tombe tombe tombons tombent tombé être | alive thing | |
eat eats ate | mange mange mangeons mangent mangé | alive | FOOD |
drink drinks drank | bois boit buvons boivent bu | alive | water milk |
see sees saw | vois voit voyons voient vu | alive | ANYTHING SIGHTS tree school | buy take hear / people
hear hears heard | entends entend entendons entendent entendu | alive | PEOPLE ANIMALS | see find / people
love loves - | aime aime aimons aiment - | people | PEOPLE ANIMALS SIGHTS flower school | / people state
know knows - | connais connaît connaissons connaissent - | people | PEOPLE | / people state
take takes took | prends prend prenons prennent pris | people | FOOD THINGS chair | eat wash sell
buy buys bought | achète achète achetons achètent acheté | people | GOODS house milk | eat drink sell wash
sell sells sold | vends vend vendons vendent vendu | people | GOODS house milk |
find finds found | trouve trouve trouvons trouvent trouvé | people | ANYTHING | take wash sell / people
look looks looked for | cherche cherche cherchons cherchent cherché | people | ANYTHING | find see / people
wash washes washed | lave lave lavons lavent lavé | people | dog horse dress car table chair apple | sell eat
write writes wrote | écris écrit écrivons écrivent écrit | people | letter book |
give gives gave | donne donne donnons donnent donné | people | THINGS cake egg bread milk cat dog | / gives
show shows showed | montre montre montrons montrent montré | people | THINGS ANIMALS SIGHTS | / gives
"""

_PLACES = """
person | in | dans | house garden kitchen school car
person | near | près de | house garden school tree car
person | behind | derrière | house tree car school
person | in front of | devant | house tree car school
animal | in | dans | house garden kitchen
animal | near | près de | house garden tree table
animal | under | sous | table chair tree car
animal | behind | derrière | house tree car chair
thing | on | sur | table chair
thing | under | sous | table chair tree
thing | in | dans | house kitchen school car
"""

DETERMINERS = {
    "the": ("le", "la", "les", "les"),
    "a": ("un", "une", "des", "des"),
    "some": ("de le", "de la", "des", "des"),
    "any": ("de", "de", "de", "de"),
    "this": ("ce", "cette", "ces", "ces"),
    "my": ("mon", "ma", "mes", "mes"),
    "our": ("notre", "notre", "nos", "nos"),
    "his": ("son", "sa", "ses", "ses"),
    "her": ("son", "sa", "ses", "ses"),
    "two": ("deux",) * 4,
    "three": ("trois",) * 4,
}


def _rows(table: str) -> list[list[list[str]]]:
    return [[cell.split() for cell in line.split("|")] for line in table.strip().splitlines()]


def _names(words: list[str]) -> tuple[str, ...]:
    """The words with the names of sets replaced by their members."""
    if not any(word in _SETS for word in words):
        return tuple(words)
    return _names([name for word in words for name in _SETS.get(word, word).split()])


def _verb(english: list[str], french: list[str], subjects, objects, rest=()) -> Verb:
    """A row of the table of verbs."""
    base, third, past, *particle = english
    je, il, nous, ils, participle, *auxiliary = french
    then, marks = (" ".join(rest).split("/") + [""])[:2]
    return Verb(
        base=base, third=third, past=past, particle="".join(particle), french=(je, il, nous, ils),
        participle=participle, auxiliary="être" if "être" in auxiliary else "avoir", subjects=_names(subjects),
        objects=_names(objects), then=tuple(then.split()), gives="gives" in marks,
        people="people" in marks, state="state" in marks,
    )  # fmt: skip


NOUNS = {
    en: Noun(en=en, en_plural=en_plural, fr=fr, fr_plural=fr_plural, gender=gender, kind=kind,
             adjectives=tuple(adjectives))
    for (en, en_plural), (fr, fr_plural), (gender, kind), adjectives in _rows(_NOUNS)
}
ADJECTIVES = {
    en: Adjective((m, f, m_plural, f_plural), "before" in marks, "colour" in marks, (*marks[1:], m)[0])
    for (en,), (m, f, m_plural, f_plural), marks in _rows(_ADJECTIVES)
}
VERBS = {row[0][0]: _verb(*row) for row in _rows(_VERBS)}
PLACES = {
    kind: [(" ".join(en), " ".join(fr), nouns) for (k,), en, fr, nouns in _rows(_PLACES) if k == kind]
    for kind in ("person", "animal", "thing")
}


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
