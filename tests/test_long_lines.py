"""A line that is too long costs the others nothing: it is cropped, skipped or refused by itself, and named."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import heed_signals
from fake_model import FakeModel

from scratchnmt import translate
from scratchnmt.checkpoint import save_model
from scratchnmt.cli.output import write_lines
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.files import atomic
from scratchnmt.files.atomic import remove_temporaries
from scratchnmt.long_lines import LongLines
from scratchnmt.metrics import perplexity
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Ensemble
from scratchnmt.translate import Translator

WORDS = [f"w{i:02}" for i in range(30)]
SRC, TGT = WordVocabulary(WORDS), WordVocabulary(["le", "la", "chat", "dort", "."])
LINES = ["w01 w02", " ".join(WORDS), "w03", "", " ".join(WORDS[::-1]), "w04 w05 w06"]
CROPPED = ["w01 w02", " ".join(WORDS[:6]), "w03", "", " ".join(WORDS[:-7:-1]), "w04 w05 w06"]
SKIPPED = [line if len(line) < 90 else "" for line in LINES]


def fake():
    return Translator(FakeModel(len(TGT), seed=9, favour={2: -1.0}), SRC, TGT)


def real(seed=0, **choices):
    model = NMT(len(SRC), len(TGT), 8, 8, seed=seed, dtype="float64", **choices)
    model.params.flat[...] *= 8
    return Translator(model, SRC, TGT)


def ensemble():
    models = [real(seed, **choices).model for seed, choices in
              enumerate(({}, {"score": "location", "max_source": 6}, {"score": "location", "max_source": 9}))]
    return Translator(Ensemble(models), SRC, TGT)


def small_memory(monkeypatch):
    monkeypatch.setattr(translate, "_MEMORY", 5 * 6 * 22 * 8)  # beams, source tokens, steps, bytes


def as_told(*_):
    pass


# why a line is too long -> a translator, and what it is told
LIMITS = {
    "max_length": (fake, 6, as_told, "max_length is 6"),
    "location": (lambda: real(score="location", max_source=6), None, as_told, "score 'location' knows 6 positions"),
    "ensemble": (ensemble, None, as_told, "score 'location' knows 6 positions"),
    "both": (lambda: real(score="location", max_source=8), 6, as_told, "max_length is 6"),
    "memory": (fake, None, small_memory, "attention weights, the limit is"),
}


@pytest.mark.parametrize("make, most, limit, why", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("what, instead, end", [("crop", CROPPED, "the first 6 are taken"),
                                                ("skip", SKIPPED, "it is skipped")])
def test_translations_are_those_of_what_is_taken(monkeypatch, make, most, limit, why, what, instead, end):
    limit(monkeypatch)
    told, translator = [], make()
    long = LongLines(what, most, told.append)
    for options in ({}, {"n_best": 2}, {"window": 1}):
        expected = translator.translate(instead, **options)
        assert translator.translate(LINES, long=long, **options) == expected and len(expected) == len(LINES)
    assert [one.split(":")[0] for one in told] == ["line 2 has 30 tokens", "line 5 has 30 tokens"] * 3
    assert all(why in one and one.endswith(end) for one in told)
    if limit is as_told:  # samples are one hypothesis a line and take less memory
        assert list(translator.sample(LINES, long=long, seed=3)) == list(translator.sample(instead, seed=3))
    attended = translator.translate_with_attention(LINES[1], long=long)
    assert attended.text == translator.translate(instead)[1]
    assert attended.src_tokens == instead[1].split() and attended.attention.shape[1:] in ((6,), (0,))
    for refused in (LongLines("refuse", most), LongLines(most=most)):
        with pytest.raises(InputError, match=f"^line 2 has 30 tokens: .*{why}.*cropped or skipped"):
            translator.translate(LINES, long=refused)


def test_lines_that_just_fit_are_left_alone(monkeypatch):
    for line in (LINES[0], LINES[5]):
        n = len(line.split())
        monkeypatch.setattr(translate, "_MEMORY", 5 * n * (2 * n + 10) * 8)
        assert fake().translate([line]) and fake().translate([line], long=LongLines("skip", n))
        monkeypatch.setattr(translate, "_MEMORY", 5 * n * (2 * n + 10) * 8 - 1)
        with pytest.raises(InputError, match="line 1"):
            fake().translate([line])


def test_the_library_warns_as_python_does():
    with pytest.warns(UserWarning, match="^line 2 has 30 tokens: max_length is 6: the first 6 are taken$"):
        fake().translate(LINES[:2], long=LongLines("crop", 6))


@pytest.mark.parametrize("arguments, sentence", [(("chop",), "long is 'chop', expected one of crop, skip, refuse"),
                                                 (("crop", 0), "max_length must be at least 1")])
def test_choices_that_there_are_not(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        LongLines(*arguments)


REFERENCES = ["le chat", "la " * 30, "dort .", "", "le", "le chat dort " * 3]


def test_scores_are_those_of_what_is_taken(monkeypatch):
    translator, told = real(), []
    cropped = [" ".join(line.split()[:6]) for line in REFERENCES]
    found = translator.score(LINES, REFERENCES, long=LongLines("crop", 6, told.append))
    expected = translator.score(CROPPED, cropped)
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-12)
    assert [one.split(":")[0] for one in told] == [
        "line 2 has 30 source and 30 target tokens", "line 5 has 30 source and 1 target tokens",
        "line 6 has 3 source and 9 target tokens"]
    assert [one.split("the first ")[1] for one in told] == [
        f"{src} of the source and {tgt} of the target are taken" for src, tgt in ((6, 6), (6, 1), (3, 6))]
    skipped = translator.score(LINES, REFERENCES, long=LongLines("skip", 6, told.append))
    assert [math.isnan(one.score) for one in skipped] == [False, True, False, False, True, True]
    assert [one.tokens for one in skipped] == [one.tokens if n in (0, 2, 3) else [] for n, one in enumerate(expected)]
    with pytest.raises(InputError, match="^line 2 has 30 source and 30 target tokens: max_length is 6"):
        translator.score(LINES, REFERENCES, long=LongLines("refuse", 6))
    monkeypatch.setattr(translate, "_MEMORY", 6 * 31 * 8)  # the target stays whole
    found = translator.score(LINES[:2], REFERENCES[:2], long=LongLines("crop", None, told.append))
    assert len(found[1].tokens) == 31
    assert found[1].score == pytest.approx(translator.score(CROPPED[:2], REFERENCES[:2])[1].score, abs=1e-12)


def test_scores_come_in_order_some_batches_at_a_time():
    translator = real()
    lines = [LINES[n % 3] for n in range(70)]
    refs = [REFERENCES[n % 3] for n in range(70)]
    whole = translator.score(lines, refs)
    stream = translator.stream_scores(lines, refs, batch_size=2)
    assert [one.score for one in stream] == pytest.approx([one.score for one in whole], abs=1e-12)
    with pytest.raises(InputError, match="line 1 is blank in the source"):  # before the first is asked for
        translator.stream_scores([""], ["le"])


def test_perplexity_is_that_of_the_pairs_that_are_left():
    from scratchnmt.data.batches import make_batch

    for translator in (real(), Translator(Ensemble([real(1).model, real(2).model]), SRC, TGT)):
        pairs = [(SRC.encode(src), TGT.encode(ref)) for src, ref in zip(LINES, REFERENCES, strict=True) if src and ref]
        batch = make_batch(*zip(*pairs, strict=True))
        found = translator.perplexity(LINES, REFERENCES, batch_size=2)
        assert found == pytest.approx(perplexity(translator.model, [batch]), rel=1e-10)
    batch = make_batch(*zip(*[pairs[0], pairs[2]], strict=True))
    found = translator.perplexity(LINES, REFERENCES, long=LongLines("skip", 6, as_told))
    assert found == pytest.approx(perplexity(translator.model, [batch]), rel=1e-10)
    with pytest.raises(InputError, match="at least one sentence"):
        translator.perplexity([""], ["le"])


# the commands


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Models, with and without a limit of places, and text with two lines that are too long for either."""
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("runs")
    for name, choices in ("any", {}), ("places", {"score": "location", "max_source": 6}):
        save_model(folder / name, real(**choices).model, SRC, TGT)
    (folder / "src").write_text("".join(line + "\n" for line in LINES))
    (folder / "tgt").write_text("".join(line + "\n" for line in REFERENCES))
    return folder


WARNED = ("warning: line 2 has 30", "warning: line 5 has 30")


@pytest.mark.parametrize("model, options, why", [("any", ["--max-length", 6, "--long", "crop"], "max_length is 6"),
                                                 ("places", [], "knows 6 positions")])
@pytest.mark.parametrize("more", [[], ["--sample"], ["--pieces"]])
def test_translate_crops_and_warns(call, runs, tmp_path, model, options, why, more):
    (tmp_path / "cropped").write_text("".join(line + "\n" for line in CROPPED))
    start = ["translate", "--model", runs / model, *options[:2], *more]
    expected = call(*start, "--input", tmp_path / "cropped")
    status, out, err = call(*start, *options[2:], "--input", runs / "src", "--output", tmp_path / "out")
    assert (status, out) == (0, "") and (tmp_path / "out").read_text() == expected[1]
    assert err.count("\n") == 2 and all(one in err for one in WARNED) and err.count(why) == 2


def test_translate_skips_or_refuses(call, runs):
    model = ["translate", "--model", runs / "places", "--beam", 2]
    status, out, err = call(*model, "--long", "skip", "--n-best", 2, stdin=(runs / "src").read_bytes())
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0 and ["2", "0.0000", ""] in rows and ["5", "0.0000", ""] in rows
    assert list(dict.fromkeys(int(row[0]) for row in rows)) == [1, 2, 3, 4, 5, 6]
    status, out, err = call(*model, "--long", "refuse", "--input", runs / "src")
    assert status == 2 and out == "" and err.startswith("scratchnmt translate: error: line 2 has 30 tokens")
    bounded = call(*model[:2], runs / "any", "--max-length", 2, "--input", runs / "src")
    assert bounded[0] == 0 and bounded[2] == "" and all(len(line.split()) <= 2 for line in bounded[1].splitlines())


def test_attention_of_a_cropped_line_is_drawn_and_it_is_named_once(call, runs, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, err = call("translate", "--model", runs / "places", "--attention", tmp_path / "map.png", "--input",
                            runs / "src")
    assert status == 0 and out.count("\n") == 6 and err.count("warning") == 2
    assert (tmp_path / "map-5.png").exists() and not (tmp_path / "map-4.png").exists()


@pytest.mark.parametrize("what", ["crop", "skip"])
def test_evaluate_keeps_lines_and_order(call, runs, tmp_path, what):
    import json

    pytest.importorskip("sacrebleu")
    instead = {"crop": CROPPED, "skip": SKIPPED}[what]
    (tmp_path / "instead").write_text("".join(line + "\n" for line in instead))
    (tmp_path / "ref").write_text("le chat\n" * 6)
    options = ["--model", runs / "places", "--ref", tmp_path / "ref", "--json", "--output"]
    expected = json.loads(call("evaluate", *options, tmp_path / "a", "--src", tmp_path / "instead")[1])
    status, out, err = call("evaluate", *options, tmp_path / "b", "--src", runs / "src", "--long", what)
    found = json.loads(out)
    assert status == 0 and (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    for name in ("bleu", "chrf", "perplexity"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    assert all(one in err for one in WARNED)


def test_score_gives_an_empty_line_for_what_it_skips(call, runs):
    files = ["score", "--model", runs / "places", "--src", runs / "src", "--tgt", runs / "tgt"]
    status, out, err = call(*files)
    rows = out.split("\n")
    assert status == 0 and len(rows) == 7 and rows[1] == rows[4] == "" and rows[3] == "0.0000\t0"
    assert all(rows[n] for n in (0, 2, 5)) and err.count("\n") == 2 and all(one in err for one in WARNED)
    rows = call(*files, "--max-length", 6, "--long", "crop")[1].split("\n")
    assert [row.partition("\t")[2] for row in rows] == ["3", "7", "3", "0", "2", "7", ""]
    assert call(*files, "--long", "refuse")[2].startswith("scratchnmt score: error: line 2 has 30 source and 30 target")


# what is written stays


def lines(*end):
    yield from ("first", "second")
    for error in end:
        raise error


def test_what_is_written_before_an_error_stays_beside_the_file(tmp_path, capsys):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    write_lines(str(out), lines())
    assert os.listdir(tmp_path) == ["out"] and out.read_text() == "first\nsecond\n"
    for error, told in ((InputError("bad"), "^bad; the first 2 lines are in .*out.partial$"),
                        (MemoryError(), "^not enough memory; the first 2"),
                        (KeyboardInterrupt(), "^interrupted; the first 2 lines are in .*out.partial$"),
                        (KeyboardInterrupt("twice"), "^twice; the first 2")):
        out.write_text("old")
        partial.unlink(missing_ok=True)
        expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError
        with pytest.raises(expected, match=told):
            write_lines(str(out), lines(error))
        assert partial.read_text() == "first\nsecond\n" and out.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out", "out.partial"]
    with pytest.raises(InputError, match="^bad; the first 2 lines are written$"):
        write_lines(None, lines(InputError("bad")))
    assert capsys.readouterr().out == "first\nsecond\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_all_lines_stay_if_the_whole_file_cannot_take_its_place(tmp_path, monkeypatch, error):
    def fails(path):
        raise error

    monkeypatch.setattr(atomic, "flush_to_disk", fails)
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with pytest.raises((InputError, KeyboardInterrupt), match="; the first 2 lines are in .*out.partial$"):
        write_lines(str(out), lines())
    assert os.listdir(tmp_path) == ["out.partial"] and partial.read_text() == "first\nsecond\n"


def test_no_place_is_named_that_the_lines_do_not_have(tmp_path):
    def vanishes():
        yield "first"
        shutil.rmtree(tmp_path / "folder")

    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written: No such file or directory$"):
        write_lines(str(tmp_path / "folder" / "out"), vanishes())


def test_nothing_is_said_or_left_where_nothing_was_written(tmp_path):
    def none(error):
        raise error
        yield

    for path in (None, str(tmp_path / "out")):
        with pytest.raises(InputError, match="^bad$"):
            write_lines(path, none(InputError("bad")))
    with pytest.raises(BrokenPipeError):  # of `| head`, which is no error
        write_lines(None, lines(BrokenPipeError()))
    assert os.listdir(tmp_path) == []


def test_a_pipe_has_what_was_written_and_is_not_moved(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(InputError, match="^bad; the first 2 lines are written$"):
        write_lines(str(tmp_path / "pipe"), lines(InputError("bad")))
    assert os.read(reader, 99) == b"first\nsecond\n" and os.listdir(tmp_path) == ["pipe"]
    os.close(reader)


def test_what_stays_of_a_link_is_beside_the_file_that_it_leads_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there" / "real")
    with pytest.raises(InputError, match="the first 2 lines are in .*/there/real.partial$"):
        write_lines(str(tmp_path / "out"), lines(InputError("bad")))
    assert os.listdir(tmp_path / "there") == ["real.partial"]


def test_translate_names_the_lines_it_kept_before_one_that_cannot_be_read(call, runs, tmp_path):
    model = ["translate", "--model", runs / "any", "--read-ahead", 2]
    text = "".join(line + "\n" for line in LINES[2:] + LINES[2:3]).encode() + b"\xff\n"
    expected = call(*model, stdin=text.replace(b"\xff", b"w07"))[1].splitlines()
    status, out, err = call(*model, stdin=text)
    assert status == 2 and out.splitlines() == expected[:4]
    assert "standard input, line 6: byte 0xff is not UTF-8" in err and "; the first 4 lines are written\n" in err
    status, out, err = call(*model, "--output", tmp_path / "out", stdin=text)
    assert (status, out) == (2, "") and f"the first 4 lines are in {tmp_path}/out.partial" in err
    assert (tmp_path / "out.partial").read_text().splitlines() == expected[:4] and not (tmp_path / "out").exists()


def command(*arguments):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "scratchnmt", *map(str, arguments)], env=environment,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                            preexec_fn=heed_signals)


@pytest.mark.parametrize("number, told", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM"),
                                          (signal.SIGHUP, "stopped by SIGHUP"), (signal.SIGKILL, "")])
def test_a_translation_that_is_stopped_keeps_what_it_has(runs, tmp_path, number, told):
    out = tmp_path / "out"
    process = command("translate", "--model", runs / "any", "--read-ahead", 1, "--output", out)
    for line in LINES[:3]:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    while not any(path.read_bytes().count(b"\n") == 3 for path in tmp_path.iterdir()):
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGKILL:  # nobody could give it its name
        (left,) = tmp_path.iterdir()
        assert left.read_text().count("\n") == 3
        remove_temporaries(out)
        return
    assert process.returncode == 130  # the signal may come between a line and its number
    assert re.search(f"scratchnmt translate: {told}; the first [23] lines are in {re.escape(str(out))}.partial\n$", err)
    assert (tmp_path / "out.partial").read_text().count("\n") == 3 and os.listdir(tmp_path) == ["out.partial"]


def test_a_pipe_has_every_line_as_soon_as_it_is_there(runs):
    process = command("translate", "--model", runs / "any", "--read-ahead", 1)
    for line in LINES[:2]:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("\n")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert re.search("interrupted; the first (2 lines are|line is) written\n$", err)


def test_evaluate_and_score_keep_what_they_have(call, runs, tmp_path, monkeypatch):
    pytest.importorskip("sacrebleu")
    streams = {"stream": ("evaluate", "--ref", "--output"), "stream_scores": ("score", "--tgt", "--out")}
    for method, (name, tgt, out) in streams.items():
        whole = getattr(Translator, method)

        def stopping(self, *lines, whole=whole, **options):
            results = whole(self, *lines, **options)
            yield next(results)
            yield next(results)
            raise KeyboardInterrupt

        monkeypatch.setattr(Translator, method, stopping)
        path = tmp_path / name
        status, _, err = call(name, "--model", runs / "any", "--src", runs / "src", tgt, runs / "tgt", out, path)
        assert status == 130 and f"interrupted; the first 2 lines are in {path}.partial" in err
        assert (tmp_path / f"{name}.partial").read_text().count("\n") == 2 and not path.exists()


@pytest.mark.parametrize("name, taken", [("o" * 250, None), ("é" * 127, None), ("out", "out.partial")])
def test_what_is_done_is_kept_where_no_file_can_have_the_usual_name(tmp_path, name, taken):
    def lines():
        yield "first"
        raise InputError("bad")

    if taken:
        (tmp_path / taken).mkdir()
    with pytest.raises(InputError, match="^bad; the first line is in .*partial$") as told:
        write_lines(str(tmp_path / name), lines())
    assert Path(str(told.value).partition("is in ")[2]).read_text() == "first\n"
