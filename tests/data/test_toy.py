from itertools import pairwise

import pytest

from scratchnmt.data.toy import LONGEST, Grammar, toy_corpus
from scratchnmt.data.toy_grammar import ADJECTIVES, NOUNS, VERBS

# Translated by hand; every one of them is drawn below.
BY_HAND = """
she left . | elle est partie .
he did not arrive . | il n' est pas arrivé .
we are sick . | nous sommes malades .
i am hungry . | j' ai faim .
we were not hungry . | nous n' avions pas faim .
is she tired ? | est-ce qu' elle est fatiguée ?
she was old . | elle était vieille .
we love him . | nous l' aimons .
do i know them ? | est-ce que je les connais ?
he sees them . | il les voit .
she found her . | elle l' a trouvée .
he did not see him . | il ne l' a pas vu .
i do not love her . | je ne l' aime pas .
we never look for him . | nous ne le cherchons jamais .
he loves us . | il nous aime .
what does he eat ? | qu' est-ce qu' il mange ?
what did his sister find ? | qu' est-ce que sa sœur a trouvé ?
who drank the milk ? | qui a bu le lait ?
where is her orange ? | où est son orange ?
where are the keys ? | où sont les clés ?
the woman who sings is happy . | la femme qui chante est heureuse .
"""

DETERMINERS = {
    ("m", False): "le l' un du au ce cet mon notre son de d'",
    ("f", False): "la l' une ma mon notre sa son cette de d'",
    ("m", True): "les des aux ces mes nos ses deux trois de d'",
    ("f", True): "les des aux ces mes nos ses deux trois de d'",
}
FORMS = {n.fr: (n.gender, False) for n in NOUNS.values()}
FORMS |= {n.fr_plural: (n.gender, True) for n in NOUNS.values()}
KEYS = [("m", False), ("f", False), ("m", True), ("f", True)]
BEFORE = [dict(zip(KEYS, a.forms, strict=True)) for a in ADJECTIVES.values() if a.before]
AFTER = [dict(zip(KEYS, a.forms, strict=True)) for a in ADJECTIVES.values() if not a.before]
LIAISON = {"bel": "beau", "vieil": "vieux"}


def starts_with_vowel(word):
    return word[0] in "aeiouyhàâéèêîôœ"


@pytest.fixture(scope="module")
def pairs():
    grammar = Grammar(seed=5)
    return [grammar.sentence() for _ in range(25000)]


@pytest.fixture(scope="module")
def french(pairs):
    return [fr.split() for _, fr in pairs]


def test_translations_by_hand(pairs):
    translations = dict(pairs)
    for line in BY_HAND.strip().splitlines():
        en, fr = line.split(" | ")
        assert translations[en] == fr


def test_genders():
    feminine = "femme fille mère sœur tante vache pomme orange soupe eau"
    feminine += " lettre fleur clé robe table chaise voiture maison cuisine école"
    assert {noun.fr for noun in NOUNS.values() if noun.gender == "f"} == set(feminine.split())


def test_regular_endings_of_the_word_tables():
    """Every word of the tables follows these rules of French, irregular as it may be."""
    for noun in NOUNS.values():
        plurals = (noun.fr + "s", noun.fr + "x", noun.fr.removesuffix("al") + "aux", "-")
        assert noun.fr_plural in plurals and noun.gender in "mf" and set(noun.adjectives) <= set(ADJECTIVES)
        assert (noun.fr_plural == noun.fr + "x") == noun.fr.endswith("eau") or noun.fr_plural == "-"
    for masculine, feminine, *plurals in (a.forms for a in ADJECTIVES.values()):
        assert feminine.endswith("e") and plurals[1] == feminine + "s"
        assert (feminine == masculine) == masculine.endswith("e")
        ending = "" if masculine[-1] in "sx" else "x" if masculine == "beau" else "s"
        assert plurals[0] == masculine + ending
    for verb in VERBS.values():
        je, il, nous, ils = verb.french
        assert nous.endswith("ons") and ils.endswith("ent") and ils[0] == nous[0]
        assert (je == il) == je.endswith("e") and (je == il or il[-1] in "td")
        assert verb.participle[-1] in "éius-t" and verb.third in (verb.base + "s", verb.base + "es", "cries")
        assert set(verb.objects) <= set(NOUNS) and set(verb.then) <= set(VERBS)
        assert all(set(verb.objects) & set(VERBS[then].objects) for then in verb.then)


def test_every_sentence_has_one_translation(pairs):
    translations = {}
    for en, fr in pairs:
        assert translations.setdefault(en, fr) == fr


def test_the_form_of_the_lines(pairs):
    for line in (line for pair in pairs for line in pair):
        words = line.split(" ")
        assert "" not in words and line == line.lower() and "{" not in line
        assert words[-1] in ".?" and not {".", "?", "-"} & set(words[:-1])
        assert 3 <= len(words) <= LONGEST
    assert all(en[-1] == fr[-1] for en, fr in pairs)


def test_english_articles(pairs):
    for en, _ in pairs:
        words = en.split()
        for article, word in pairwise(words):
            assert article not in ("a", "an") or (article == "an") == (word[0] in "aeiou"), en


def test_elision_and_contraction(french):
    elided = {"l'", "d'", "n'", "j'", "m'", "qu'", "cet", "bel", "vieil"}
    not_elided = {"le", "la", "de", "ne", "je", "me", "que", "ce", "ma", "sa"}
    contracted = {("à", "le"), ("à", "les"), ("de", "le"), ("de", "les")}
    for words in french:
        for word, after in pairwise(words):
            assert not (word in not_elided and starts_with_vowel(after)), words
            assert not (word in elided and not starts_with_vowel(after)), words
            assert (word, after) not in contracted, words


def test_noun_phrases_agree(french):
    for words in french:
        for i, word in enumerate(words):
            if word in FORMS:
                check_noun_phrase(words, i, FORMS[word])


def check_noun_phrase(words, i, key):
    """Determiner and adjectives around the noun words[i], whose gender and number (plural: True) are key."""
    before = LIAISON.get(words[i - 1], words[i - 1])
    first = i
    if any(before in forms.values() for forms in BEFORE):
        assert any(before == forms[key] for forms in BEFORE), words
        assert (words[i - 1] in LIAISON) == (before in ("beau", "vieux") and key == ("m", False) and
                                             starts_with_vowel(words[i])), words  # fmt: skip
        first -= 1
    assert words[first - 1] in DETERMINERS[key].split(), words
    if words[first - 1] in ("mon", "son") and key[0] == "f":
        assert starts_with_vowel(words[first]), words
    if any(words[i + 1] in forms.values() for forms in AFTER):
        assert any(words[i + 1] == forms[key] for forms in AFTER), words


def test_indefinite_plural_before_an_adjective(french):
    """ "il y a des chats", but "il y a de petits chats"."""
    seen = set()
    for words in french:
        if words[1:3] in (["y", "a"], ["y", "avait"]) and words[3] in ("de", "des"):
            adjective = any(words[4] in forms.values() for forms in BEFORE)
            assert (words[3] == "de") == adjective, words
            seen.add(adjective)
    assert len(seen) == 2


def test_negation_surrounds_the_verb(french):
    for words in french:
        start = [i for i, word in enumerate(words) if word in ("ne", "n'")]
        end = [i for i, word in enumerate(words) if word in ("pas", "jamais")]
        assert len(start) == len(end)
        assert all(2 <= e - s <= 3 for s, e in zip(start, end, strict=True)), words


def test_pronoun_agrees_with_its_noun(pairs):
    """In "took the apple and ate it", what stands before "mangé", and its ending, are decided by "apple"."""
    food = {form for n in NOUNS.values() if n.kind in ("food", "mass") for form in (n.fr, n.fr_plural)}
    seen = set()
    for en, fr in pairs:
        if en.split()[-3] not in ("eat", "eats", "ate") or en.split()[-2] not in ("it", "them"):
            continue
        gender, plural = FORMS[[word for word in fr.split() if word in food][0]]
        past = fr.split()[-2].startswith("mangé")
        if past:
            assert fr.split()[-2] == "mangé" + "e" * (gender == "f") + "s" * plural, (en, fr)
        pronoun = "les" if plural else "l'" if past else "la" if gender == "f" else "le"
        assert pronoun in fr.split()[-6:-2], (en, fr)
        seen.add((gender, plural, past))
    assert len(seen) == 8


def test_corpus_is_split_without_overlap():
    corpus = toy_corpus(seed=3, train=2000, valid=100, test=150)
    assert [len(split.src) for split in corpus] == [len(split.tgt) for split in corpus] == [2000, 100, 150]
    for side in (0, 1):
        lines = [line for split in corpus for line in split[side]]
        assert len(set(lines)) == len(lines)


def test_corpus_follows_its_seed():
    first, again, other = (toy_corpus(seed, 300, 50, 50) for seed in (0, 0, 1))
    assert first == again and first != other
    assert toy_corpus(0, 600, 50, 50).test == first.test  # whatever the size of training


def test_default_corpus():
    corpus = toy_corpus()
    for side in (0, 1):
        known, *rest = ({word for line in split[side] for word in line.split()} for split in corpus)
        assert len(known) < 400 and rest[0] | rest[1] <= known
        lengths = [len(line.split()) for line in corpus.train[side]]
        assert 7 < sum(lengths) / len(lengths) < 9


def test_bad_sizes():
    with pytest.raises(ValueError, match="sizes -1, 1, 1"):
        toy_corpus(train=-1, valid=1, test=1)
    with pytest.raises(ValueError, match="200000"):
        toy_corpus(train=10**6)
