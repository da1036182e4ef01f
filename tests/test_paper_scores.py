"""The scores that papers give: which measure counts what, intervals, significance; and `evaluate --paper`."""

import json

import pytest

from scratchnmt import NMT
from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.paper_scores import paper_scores

pytest.importorskip("sacrebleu")
pytest.importorskip("sacremoses", reason="sacremoses is not installed: pip install '.[paper]'")
REFERENCES = ["Der Hund läuft , und die Katze schläft .", "Ein Mann steht auf der Leiter .", "Zwei Kinder spielen .",
              "Eine Frau liest das Buch im Park ."] * 5
NAMES = ["BLEU", "BLEU, lower-cased", "BLEU, lower-cased Moses tokens", "chrF"]


def of(translations, *references, **options):
    return {score.measure: score for score in paper_scores({"one": translations}, *references, **options)["one"]}


def test_each_measure_counts_what_it_says():
    lower = of([line.lower() for line in REFERENCES], REFERENCES, language="de")
    assert list(lower) == NAMES
    assert lower["BLEU"].score < 80 and lower["BLEU, lower-cased"].score == pytest.approx(100)
    assert lower["BLEU, lower-cased Moses tokens"].score == pytest.approx(100)
    assert "case:lc" in lower["BLEU, lower-cased"].signature
    assert "lang:de" in lower["BLEU, lower-cased Moses tokens"].signature


def test_moses_tokens_are_those_of_multi_bleu():
    quoted = of(["Er sagt: \u201eJa\u201c & geht."] * 4, ['er sagt : " ja " & geht .'] * 4, language="de")
    assert quoted["BLEU, lower-cased Moses tokens"].score == pytest.approx(100)
    assert quoted["BLEU"].score < 60


def test_a_score_lies_in_its_interval_and_the_first_system_has_no_p_value():
    some = [line if n % 3 else "Ein Hund ." for n, line in enumerate(REFERENCES)]
    worse = ["Ein Hund ." for _ in REFERENCES]
    scores = paper_scores({"some": some, "same": list(some), "worse": worse}, REFERENCES, language="de")
    for first, same, last in zip(*scores.values(), strict=True):
        assert first.low <= first.score + 3 and first.score - 3 <= first.high and first.low < first.high
        assert first.p is None and same.p == 1 and last.p < 0.05


def test_weak_translations_have_intervals_that_are_scores():
    """A draw without the one good line has chrF 0, which sacreBLEU has as another type of number."""
    weak = of([REFERENCES[0], *["xqz"] * 19], REFERENCES, language="de")
    assert 0 < weak["chrF"].score < 30 and all(0 == score.low <= score.high <= 100 for score in weak.values())
    good = of([*REFERENCES[:-1], "Eine Frau"], REFERENCES, language="de")
    assert all(score.low < score.high <= 100 for score in good.values())


def test_several_references_and_a_script_without_spaces():
    two = of(["b"] * 3, ["a", "", "b"], ["b", "b", "c"], language="de")
    assert two["BLEU"].signature.startswith("nrefs:")
    assert list(of(["\u72d7\u5728\u8dd1\u6b65\u3002"] * 3, ["\u72d7\u5728\u8dd1\u6b65\u3002"] * 3)) == [
        "BLEU", "BLEU, lower-cased", "chrF"]


def test_bad_input():
    with pytest.raises(InputError, match="language is 'German', expected two letters"):
        of(["a"], ["a"], language="German")
    with pytest.raises(InputError, match="one has 2 translations"):
        of(["a", "b"], ["a"])


@pytest.mark.parametrize("wrong, told", [
    (["--against", "missing"], "missing does not exist"), (["--against", "short"], "short has 1"),
    (["--against", "ref", "ref"], "--against ref: the table has a system of that name already"),
    (["--against", "this model"], "--against this model: the table has a system"),
    (["--long", "refuse", "--max-length", "2"], "has 2 source and 3 target tokens: --max-length is 2"),
])
def test_evaluate_tells_what_is_wrong_with_the_references_before_it_searches(call, tmp_path, monkeypatch, wrong, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scratchnmt.translate.beam_search", None)  # it would be a TypeError
    words = WordVocabulary("un chien dort le chat".split())
    save_model("model", NMT(len(words), len(words), 4, 4), words, words)
    for name, lines in {"src": ["un chien"] * 3, "ref": ["un chien dort"] * 3, "short": ["un"],
                        "this model": ["un"] * 3}.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    options = ["--model", "model", "--src", "src", "--ref", "ref", "--paper", "--language", "fr"]
    status, _, errors = call("evaluate", *options, *wrong)
    assert status == 2 and told in errors


def test_evaluate_prints_them(call, tmp_path):
    words = WordVocabulary("un chien dort le chat".split())
    save_model(tmp_path / "model", NMT(len(words), len(words), 4, 4), words, words)
    for name, lines in {"src": ["un chien", "le chat"] * 3, "ref": ["un chien dort", "le chat dort"] * 3,
                        "other": ["un chien dort", "le chat"] * 3}.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    options = ["evaluate", "--model", tmp_path / "model", "--src", tmp_path / "src", "--ref", tmp_path / "ref",
               "--paper", "--language", "fr"]
    status, said, _ = call(*options, "--against", tmp_path / "other")
    assert status == 0 and all(name in said for name in NAMES) and "lang:fr" in said and "p = " in said
    status, said, _ = call(*options, "--json")
    assert [score["measure"] for score in json.loads(said)["paper"]["this model"]] == NAMES
    status, _, errors = call(*options[:-1], "german", "--model", tmp_path / "never looked at")
    assert status == 2 and "language is 'german'" in errors
    (tmp_path / "short").write_text("un chien\n")
    assert call(*options, "--against", tmp_path / "short")[0] == 2
    status, _, errors = call(*options[:7], "--language", "fr")
    assert status == 2 and "--language needs --paper" in errors
