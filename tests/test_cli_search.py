"""`scratchnmt score` and `average`, translations drawn at random, and several models at once, as a user meets them."""

import json

import numpy as np
import pytest
from test_cli import refused

from scratchnmt.checkpoint import load_model, save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.models.nmt import NMT
from scratchnmt.translate import Translator

SRC = WordVocabulary(["the", "a", "dog", "cat", "runs", "sleeps", "."])
TGT = WordVocabulary(["le", "un", "chien", "chat", "court", "dort", "."])
LINES = ["the dog runs .", "", "a cat sleeps", "the cat"]


@pytest.fixture
def runs(tmp_path):
    """Folders of three models, the third with another target vocabulary, and two files of text."""
    other = WordVocabulary(["le", "un", "chien", "chat", "court", "dort", "!"])
    for seed, (name, tgt) in enumerate([("one", TGT), ("two", TGT), ("other", other)], 4):
        model = NMT(len(SRC), len(tgt), 8, 8, seed=seed, dtype="float64")
        model.params.flat[...] *= 10
        save_model(tmp_path / name, model, SRC, tgt)
    (tmp_path / "src").write_text("".join(line + "\n" for line in LINES))
    (tmp_path / "tgt").write_text("le chien court .\n\nun chat dort\nle\n")
    return tmp_path


def files(runs):
    return ["--src", runs / "src", "--tgt", runs / "tgt"]


@pytest.mark.parametrize("name", ["score", "average"])
def test_help_has_an_example(call, name):
    status, out, err = call(name, "--help")
    assert status == 0 and not err and f"\n  scratchnmt {name} --" in out.partition("\nexample")[2]


def test_score_prints_a_line_for_each_pair(call, runs):
    status, out, err = call("score", "--model", runs / "one", *files(runs))
    scored = Translator.load(runs / "one").score(LINES, (runs / "tgt").read_text().split("\n")[:-1])
    assert status == 0 and err == ""
    assert out.splitlines() == [f"{s.score:.4f}\t{len(s.tokens)}" for s in scored]
    assert [line.split("\t")[1] for line in out.splitlines()] == ["5", "0", "4", "2"]
    assert call("score", "--model", runs / "one", *files(runs), "--batch-size", 1)[1] == out


def test_score_of_tokens_and_a_file(call, runs):
    status, out, _ = call("score", "--model", runs / "one", *files(runs), "--tokens")
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and [len(row) for row in rows] == [4] * 4
    assert rows[0][2] == "le chien court . </s>" and rows[1] == ["0.0000", "0", "", ""]
    for score, count, tokens, scores in rows[2:]:
        assert len(tokens.split(" ")) == len(scores.split(" ")) == int(count)
        assert sum(map(float, scores.split(" "))) == pytest.approx(float(score), abs=1e-3)
    assert call("score", "--model", runs / "one", *files(runs), "--tokens", "--out", runs / "found")[:2] == (0, "")
    assert (runs / "found").read_text() == out


@pytest.mark.parametrize("pieces", [[], ["--pieces"]], ids=["text", "pieces"])
def test_score_of_what_was_translated_is_its_score(call, runs, pieces):
    found = call("translate", "--model", runs / "one", "--n-best", 1, "--input", runs / "src", "--beam", 8,
                 "--max-length", 40, *pieces)[1]
    rows = [line.split("\t") for line in found.splitlines()]
    (runs / "tgt").write_text("".join(text + "\n" for _, _, text in rows))
    again = [line.split("\t") for line in call("score", "--model", runs / "one", *files(runs), *pieces)[1].splitlines()]
    ended = [i for i, (_, _, text) in enumerate(rows) if len(text.split()) < 40]
    assert len(ended) > 2 and [again[i][0] for i in ended] == [rows[i][1] for i in ended]


def test_score_refuses_what_it_cannot_use(call, runs):
    model = ["score", "--model", runs / "one"]
    refused(call(*model, "--src", runs / "src"), "--tgt")
    (runs / "short").write_text("le\n")
    refused(call(*model, "--src", runs / "src", "--tgt", runs / "short"), "src has 4 lines and", "short has 1")
    (runs / "full").write_text("le\n" * 4)
    refused(call(*model, "--src", runs / "src", "--tgt", runs / "full"), "line 2 is blank in the source")
    refused(call(*model, *files(runs), "--batch-size", 0), "--batch-size must be at least 1")
    refused(call(*model, *files(runs), "--out", runs / "no" / "out"), "is not a folder")
    (runs / "src").write_text("a " * 20_000 + "\n")
    (runs / "tgt").write_text("le " * 20_000 + "\n")
    refused(call(*model, *files(runs), "--long", "refuse"), "line 1 has 20,000 source and 20,000 target tokens",
            "512 MB")


def test_sampling_is_repeatable_and_by_line(call, runs):
    sample = ["translate", "--model", runs / "one", "--input", runs / "src", "--sample"]
    status, out, err = call(*sample, "--seed", 3)
    assert status == 0 and err == ""
    assert out.splitlines() == [text for text, _ in Translator.load(runs / "one").sample(LINES, seed=3)]
    assert out.splitlines()[1] == "" and out.count("\n") == 4
    assert call(*sample, "--seed", 3, "--batch-size", 1, "--read-ahead", 1)[1] == out
    assert call(*sample, "--seed", 4)[1] != out != call(*sample, "--seed", 3, "--temperature", 3)[1]
    greedy = call("translate", "--model", runs / "one", "--input", runs / "src", "--beam", 1)[1]
    assert call(*sample, "--top-k", 1)[1] == greedy == call(*sample, "--temperature", 1e-6)[1] != out


def test_constraints_on_the_command_line(call, runs):
    translate = ["translate", "--model", runs / "one", runs / "two", "--input", runs / "src", "--max-length", 12]
    constraints = ["--min-length", 4, "--no-repeat-ngram", 2]
    for more in [], ["--beam", 1], ["--sample", "--seed", 3]:
        status, out, err = call(*translate, *more, *constraints)
        assert status == 0 and err == "" and out != call(*translate, *more)[1]
        for line, text in zip(LINES, out.split("\n")[:-1], strict=True):
            words = text.split()
            pairs = list(zip(words, words[1:], strict=False))
            assert len(words) >= 4 and len(set(pairs)) == len(pairs) if line else not words
    pieces = call(*translate, *constraints, "--pieces", "--n-best", 1)[1].splitlines()
    (runs / "tgt").write_text("".join(row.split("\t")[2] + "\n" for row in pieces))
    scored = call("score", "--model", runs / "one", runs / "two", *files(runs), "--pieces")[1].splitlines()
    ended = [n for n, row in enumerate(pieces) if len(row.split("\t")[2].split()) < 12]
    assert len(ended) > 1 and [scored[n].split("\t")[0] for n in ended] == [pieces[n].split("\t")[1] for n in ended]

    evaluate = ["evaluate", "--model", runs / "one", "--src", runs / "src", "--ref", runs / "src", "--json"]
    found = json.loads(call(*evaluate, *constraints, "--output", runs / "found")[1])
    assert found["min_length"] == 4 and found["no_repeat_ngram_size"] == 2
    assert [len(text.split()) >= 4 for text in (runs / "found").read_text().splitlines()] == list(map(bool, LINES))


def test_samples_come_with_their_scores(runs):
    translator = Translator.load(runs / "one")
    drawn = list(translator.sample(LINES * 10, seed=1, max_length=60))
    same = [translator.score([line], [text])[0].score for line, (text, _) in zip(LINES * 10, drawn, strict=True)]
    ended = [i for i, (text, _) in enumerate(drawn) if len(text.split()) < 60]
    assert len(ended) > 30
    np.testing.assert_allclose([drawn[i][1] for i in ended], [same[i] for i in ended], rtol=0, atol=1e-10)


def test_sampling_refuses_what_would_do_nothing(call, runs):
    model = ["translate", "--model", runs / "one", "--input", runs / "src"]
    for option, value in (("--beam", 3), ("--length-penalty", 0.5), ("--n-best", 2), ("--attention", "x.png")):
        refused(call(*model, "--sample", option, value), f"{option} is of a search, and --sample makes none")
    for option, value in (("--temperature", 0.5), ("--top-k", 3), ("--seed", 1)):
        refused(call(*model, option, value), f"{option} needs --sample")
    for option, value in (("--temperature", 0), ("--top-k", -1), ("--seed", -1), ("--max-length", 0)):
        refused(call(*model, "--sample", option, value), f"{option} must be ")


def test_several_models_translate_and_score_together(call, runs):
    one, two = runs / "one", runs / "two"
    translate = ["translate", "--input", runs / "src", "--n-best", 2]
    status, out, _ = call(*translate, "--model", one, two)
    assert status == 0 and call(*translate, "--model", two, "--model", one)[1] == out
    alone = call(*translate, "--model", one)[1]
    assert out != alone == call(*translate, "--model", one, one)[1]
    p = [[float(line.split("\t")[0]) for line in call("score", "--model", *models, *files(runs))[1].splitlines()]
         for models in ([one], [two], [one, two])]
    assert p[0] != p[1] and all(min(a, b) <= both + 1e-3 for a, b, both in zip(*p, strict=True))
    (runs / "ref").write_text("le chien\nun\nle chat\nle\n")
    evaluate = ["evaluate", "--src", runs / "src", "--ref", runs / "ref", "--json"]
    found = [json.loads(call(*evaluate, "--model", *models)[1]) for models in ([one], [one, one], [one, two])]
    assert found[0]["perplexity"] == pytest.approx(found[1]["perplexity"]) != found[2]["perplexity"]
    for command in (translate, ["score", *files(runs)], evaluate):
        refused(call(*command, "--model", one, runs / "other"), "other/tgt.vocab.json is not the same vocabulary as",
                "one/tgt.vocab.json")


def test_average_writes_a_model_that_can_be_used(call, runs):
    status, out, err = call("average", "--model", runs / "one", runs / "two", "--out", runs / "mean")
    assert status == 0 and err == "" and f"scratchnmt translate --model {runs}/mean" in out
    weights = [load_model(runs / name).model.params.flat for name in ("one", "two", "mean")]
    np.testing.assert_allclose((weights[0] + weights[1]) / 2, weights[2], rtol=1e-15)
    assert call("translate", "--model", runs / "mean", "--input", runs / "src")[0] == 0
    refused(call("average", "--model", runs / "one", runs / "two", "--out", runs / "mean"), "mean exists already")
    refused(call("average", "--model", runs / "one", runs / "other", "--out", runs / "new"), "other/tgt.vocab.json")
    refused(call("average", "--model", runs / "one"), "--out")
    assert not (runs / "new").exists()
