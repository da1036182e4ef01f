"""The words of the toy grammar, English and French, with what may be said of what.

Which adjectives and objects go with which word keeps the sentences sensible and, above all, the French
right: "a small boy" is "un petit garçon", but "my small brother" would have to be "mon petit frère", which
says "younger", and "a beautiful girl" "une belle fille", which may be a daughter-in-law.
"""

from __future__ import annotations

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
