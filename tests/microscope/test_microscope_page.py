"""What the page is made of: arrays, code, checks, bugs and cut paths, in every configuration; and bad input."""

import base64
import inspect
import json
import re

import numpy as np
import pytest
from test_recorded_step import BATCH, EVERY, SENTENCES, rms, traced

from scratchnmt import NMT, textbook
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError, WriteError
from scratchnmt.microscope import Batch, Microscope, Trace, sabotage
from scratchnmt.microscope.page import Page, html
from scratchnmt.microscope.paths import line_of_textbook
from scratchnmt.museum import BUGS
from scratchnmt.ops.plain import PLAIN
from scratchnmt.selfcheck.models import MODELS

WORDS = WordVocabulary("a b c d e f g".split())
HOSTILE = "</script><script>alert(1)</script>", '"\'<!--', "\u202eright-to-left\u2028", "<b>&amp;"


def numbers(text, columns):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, columns)


def words_of(trace):
    src = [[f"s{s}" for s in range(length)] for length in trace.src_lengths]
    tgt = [[f"t{t}" for t in range(length)] for length in trace.tgt_lengths]
    return list(zip(src, tgt, strict=True))


def page_of(model, trace):
    return Page(trace, words_of(trace), [f"w{id}" for id in range(model.config.tgt_vocab_size)], "a model")


def small_model(**choices):
    model = NMT(len(WORDS), len(WORDS), 6, 4, dtype="float64", **choices)
    model.params.flat[...] = 0.5 * np.random.default_rng(5).standard_normal(model.params.flat.size)
    return model


@pytest.fixture(scope="module")
def microscope():
    return Microscope(small_model(), WORDS, WORDS, [("a b c", "d e"), ("f", None)], checks=30,
                      check=["h_dec/0/1/3", "z_fwd/1/0/9"])


@EVERY
def test_the_page_of_every_configuration_has_its_numbers_code_and_checks(case):
    model, trace = traced(case.name)
    data = json.loads(json.dumps(page_of(model, trace).data(checks=4), default=lambda value: value.item()))
    assert len(data["checks"]) == 4 and all(check["ok"] for check in data["checks"])
    index = [entry["id"] for entry in data["quantities"]]
    for entry in data["quantities"]:
        for side in ("value", "gradient"):
            if entry[side] is None:
                continue
            assert len(entry[side]["norms"]) == len(SENTENCES)
            if entry["of"]:
                continue
            assert entry[side]["arrays"] or entry["id"].startswith(("gates", "row_"))
            for b, text in enumerate(entry[side]["arrays"] or ()):
                array = getattr(trace, side)(entry["id"], b)
                kept = array if entry["units"] is None else array[:, entry["units"]]
                np.testing.assert_array_equal(numbers(text, kept.shape[1]), kept.astype("f4"))
            for place in (entry[side]["made"], entry[side]["called"], *entry["read"]):
                if place:
                    source = data["sources"][place["source"]]
                    assert source["first"] <= place["line"] < source["first"] + len(source["lines"])
            for path in entry[side].get("paths", ()):
                assert path["label"] and not path["label"].startswith("_") and path["line"]
            if "paths" in entry[side]:
                assert entry[side]["residual"] < 1e-12
                whole = np.array([norm for norms in entry[side]["norms"] for norm in norms])
                shares = sum(np.array([share for shares in path["shares"] for share in shares])
                             for path in entry[side]["paths"])
                np.testing.assert_allclose(shares[whole > 1e-12], 1, atol=1e-5)
    calls = data["calls"]
    assert len(calls["list"]) == len(trace.calls)
    written = {(index[row[0]], row[1]) for call in calls["list"] for row in zip(*[iter(call[4])] * 5, strict=True)}
    last = model.config.layers - 1 or ""
    assert {(f"h_dec{last}", 0), (f"z_dec{last}", 1), (f"h_dec{last}", 1)} <= written


def test_the_cell_before_receives_what_a_step_back_writes_into_the_same_memory():
    model, trace = traced(MODELS[0].name)
    calls, ids = page_of(model, trace).data(checks=0)["calls"], list(trace.table)
    back = [call for call, recorded in zip(calls["list"], trace.calls, strict=True)
            if recorded.op == "lstm_gates_backward" and recorded.site.file == "models/cells.py"]
    rows = [{tuple(row[:4]) for row in zip(*[iter(call[k])] * size, strict=True)}
            for call in back for k, size in ((3, 4), (4, 5))]
    dc = ids.index("c_dec")
    T = max(trace.tgt_lengths)
    for t, reads, writes in zip(reversed(range(T)), rows[::2], rows[1::2], strict=True):
        assert {row[3] for row in reads if row[:2] == (dc, 1)} == {t}
        assert {row[3] for row in writes if row[:2] == (dc, 1)} == ({t - 1} if t else set())


def test_the_paths_of_the_default_model_have_their_lines_in_the_textbook():
    model, trace = traced(MODELS[0].name)
    text = inspect.getsource(textbook)
    for quantity in trace.table.values():
        for path in quantity.gradient.paths if quantity.gradient else ():
            line = line_of_textbook(model.config, quantity.id, path)
            assert line in text and (line or quantity.id.startswith(("row_", "h_init", "c_init"))), (quantity.id, path)
    assert line_of_textbook(MODELS[3].model().config, "h_dec", "query") == ""


def test_norms_of_single_words_are_those_of_their_losses():
    model, trace = traced(MODELS[0].name)
    data = page_of(model, trace).data(checks=0)
    entry = next(entry for entry in data["quantities"] if entry["id"] == "h_dec")
    other = Trace(model, BATCH)
    for b in SENTENCES:
        table = numbers(entry["gradient"]["by_word"]["arrays"][b], trace.tgt_lengths[b])
        for t in range(trace.tgt_lengths[b]):
            other.backward(word=(b, t))
            expected = np.linalg.norm(other.gradient("h_dec", b), axis=1)
            np.testing.assert_allclose(table[t], expected, rtol=1e-6, atol=1e-9)


def test_the_row_of_a_word_has_the_gradient_of_the_table():
    model, trace = traced("nmt, tied embeddings, label smoothing")
    for id, name, ids in (("row_x", "embed.src", BATCH.src), ("row_y", "embed.tgt", BATCH.tgt)):
        for b in SENTENCES:
            gradient = trace.gradient(id, b)
            for row, expected in zip(gradient, trace.grads[name][ids[: len(gradient), b]], strict=True):
                np.testing.assert_allclose(row, expected, rtol=0, atol=1e-13 * rms(trace.grads[name]))


def test_what_single_steps_add_to_a_source_word_are_norms_of_its_terms():
    model, trace = traced(MODELS[0].name)
    data = page_of(model, trace).data(checks=0)
    entry = next(entry for entry in data["quantities"] if entry["id"] == "h_enc")
    values, keys = (path for path in entry["gradient"]["paths"] if path["id"] in ("values", "keys"))
    b, W = 1, model.params["attention.W"]
    weights, da, h = trace.value("weights", b), trace.gradient("a", b), trace.value("h_dec", b)
    dscore = trace.gradient("score", b)
    for path, term in ((values, lambda t, s: weights[t, s] * da[t]), (keys, lambda t, s: dscore[t, s] * (W @ h[t]))):
        T = trace.tgt_lengths[b]
        expected = [[np.linalg.norm(term(t, s)) for t in range(T)] for s in range(trace.src_lengths[b])]
        np.testing.assert_allclose(numbers(path["steps"][b], T), expected, rtol=1e-6)


@pytest.mark.parametrize("choices", [{}, {"feed": "context"}, {"score": "dot"}, {"score": "concat", "layers": 2},
                                     {"bidirectional": False}], ids=str)
def test_a_cut_path_is_gone_and_the_loss_does_not_tell(choices):
    trace = Trace(small_model(**choices), Batch(np.array([[4, 5], [6, 0]]), np.array([2, 1]),
                                                np.array([[1, 1], [7, 8], [9, 2], [2, 0]])))
    found = {cut["name"]: cut for cut in sabotage.cuts(trace)}
    assert set(found) >= {"feeding", "next", "recurrence", "query", "keys", "values", "first"}
    last = trace.model.config.layers - 1 or ""
    fed = "a" if choices.get("feed") == "context" else "o"
    ends = {"feeding": fed, "next": f"c_dec{last}", "recurrence": f"h_dec{last}", "query": f"h_dec{last}",
            "keys": "h_enc", "values": "h_enc", "first": f"h_fwd{last}"}
    for name, cut in found.items():
        assert cut["loss_difference"] == 0 and cut["weights"], name
        done = []
        other = Trace(trace.model, trace.batch, hook=sabotage._cutting(name, done))
        for b in range(2):
            assert name not in other.paths(ends[name], b), name
            assert set(other.paths(ends[name], b)) == set(trace.paths(ends[name], b)) - {name}
        assert np.isfinite(cut["weights"][0][1])


def test_bugs_are_told_by_the_loss_or_by_gradients_alone(microscope):
    bugs = {bug["name"]: bug for bug in microscope.data["bugs"]}
    hidden = {bug["name"] for bug in microscope.data["hidden_bugs"]}
    assert set(bugs) | hidden == {bug.name for bug in BUGS} and not set(bugs) & hidden
    silent = bugs["dc-overwritten"]
    assert silent["loss_difference"] == 0 and silent["caught"] and "dc" in silent["verdict"]
    assert "decoder.Wh" in [weight[0] for weight in silent["weights"]]
    assert {mark for mark, _ in silent["diff"]} == {" ", "-"}  # the bug is a line that is missing
    told = bugs["sees-the-answer"]
    assert abs(told["loss_difference"]) > 0.1
    assert "c_dec" in silent["norms"] and "adam-erased" in hidden


def test_named_cells_are_checked_first(microscope):
    assert [(check["q"], check["b"], check["row"], check["unit"]) for check in microscope.data["checks"][:2]] == [
        ("h_dec", 0, 1, 3), ("z_fwd", 1, 0, 9)]
    assert all(check["ok"] for check in microscope.data["checks"]) and len(microscope.data["checks"]) == 32


def test_a_wrong_gradient_is_seen_by_the_checks(microscope):
    trace = Trace(small_model(), microscope.trace.batch, hook=sabotage._cutting("query", []))
    checks = page_of(trace.model, trace).data(checks=60)["checks"]
    assert {check["q"] for check in checks if not check["ok"]} & {"h_dec", "z_dec", "c_dec", "h_init"}
    after = trace.tgt_lengths[0] - 1  # the last step's output is read by the vocabulary alone
    assert all(check["ok"] for check in checks if check["q"] in ("o", "p") and (check["b"], check["row"]) == (0, after))


@pytest.mark.parametrize("what, largest", [("float32", 1e-4), ("untrained", None), (1, None)])
def test_two_steps_beside_each_other(what, largest):
    model = small_model(layers=2, score="concat")
    other = small_model(layers=2, score="concat")
    other.params["combine.W"][...] *= 1.5
    microscope = Microscope(model, WORDS, WORDS, [("a b", "c"), ("d", "e f")], checks=0, bugs="none",
                            compare=other if what == 1 else what)
    compared = microscope.data["compare"]
    h_dec = compared["quantities"]["h_dec1"]
    differences = [call[4] for call in compared["calls"]]
    assert compared["loss"] == microscope.data["loss"] != compared["other_loss"]
    assert len(h_dec["gradient"]) == 2 and len(h_dec["gradient"][0]) == 2 and max(h_dec["gradient"][0]) > 0
    if largest:
        assert 0 < max(differences) < largest
    else:
        assert max(differences) > 0.01
    if what == 1:  # nothing before the combining weights has changed
        assert max(call[4] for call in compared["calls"] if call[1].startswith("ops/lstm.py") and
                   call[3] == "forward") == 0


def test_models_of_another_make_are_not_compared():
    with pytest.raises(InputError, match="another hidden_size"):
        Microscope(small_model(), WORDS, WORDS, [("a", "b")],
                   compare=NMT(len(WORDS), len(WORDS), 6, 8, dtype="float64"))
    with pytest.raises(InputError, match="compare is 'double'"):
        Microscope(small_model(), WORDS, WORDS, [("a", "b")], compare="double")


def embedded(page):
    return re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]


def test_no_text_can_end_the_script(microscope):
    data = {**microscope.data, "title": HOSTILE[0], "sentences": [{**microscope.data["sentences"][0],
                                                                  "src": list(HOSTILE)}]}
    page = html(data)
    assert page.lower().count("</script") == html(microscope.data).lower().count("</script")
    assert json.loads(embedded(page))["sentences"][0]["src"] == list(HOSTILE)
    assert "<" not in embedded(page) and "\u2028" not in embedded(page)


def test_a_page_asks_for_nothing_from_outside(microscope):
    page = html(microscope.data).replace(embedded(html(microscope.data)), "")
    assert not re.search(r"""(src|href)=["']?https?:|@import|\bimport\(|type=["']module""", page)


def test_a_page_is_saved_whole_and_shown_in_a_notebook(microscope, tmp_path):
    microscope.save(tmp_path / "page.html")
    assert json.loads(embedded((tmp_path / "page.html").read_text())) == json.loads(embedded(microscope.html()))
    frame = microscope._repr_html_()
    assert frame.startswith("<iframe srcdoc=") and "<script" not in frame
    with pytest.raises(WriteError, match="nowhere"):
        microscope.save(tmp_path / "nowhere" / "page.html")


def test_float32_models_are_looked_at_in_float64():
    model = NMT(len(WORDS), len(WORDS), 6, 4, seed=1)
    model.kernels = PLAIN._replace(lstm_gates=None)  # whatever it computes by
    microscope = Microscope(model, WORDS, WORDS, [("a b", "c")], checks=10, bugs="none")
    assert microscope.trace.loss.dtype == np.float64 and all(check["ok"] for check in microscope.data["checks"])
    h_dec = next(entry for entry in microscope.data["quantities"] if entry["id"] == "h_dec")
    assert h_dec["value"]["bytes"] == 2 * 4 * 4  # two steps, four units, float32


def test_the_same_seed_draws_the_same_masks():
    def loss(seed):
        model = small_model(dropout=0.4, embed_dropout=0.4)
        return Microscope(model, WORDS, WORDS, [("a b", "c")], seed=seed, checks=0, bugs="none").trace.loss

    assert loss(1) == loss(1) != loss(2) and loss(None) not in (loss(1), loss(2))


@pytest.mark.parametrize("pairs, options, expected", [
    ([], {}, "0 pairs of sentences, expected 1 to 4"),
    ([("a", "b")] * 5, {}, "5 pairs of sentences, expected 1 to 4"),
    ([("", "a")], {}, "source 1 is empty"),
    ([("a", " ")], {}, "target 1 is empty"),
    ([("a " * 101, "b")], {}, "source 1 has 101 tokens, a page holds 100"),
    ([("a\nb", "b")], {}, "source 1 has 2 lines, expected one sentence"),
    ([("a", "b")], {"check": ["h_dec"]}, "as in h_dec/0/3/17"),
    ([("a", "b")], {"check": ["h_dek/0/0/0"]}, "h_dek.* is not a quantity.*h_dec"),
    ([("a", "b")], {"check": ["h_dec/1/0/0"]}, "there are 1 sentences"),
    ([("a", "b")], {"check": ["h_dec/0/9/0"]}, "words 0 to 1 and units 0 to 3"),
    ([("a", "b")], {"checks": -1}, "checks is -1"),
    ([("a", "b")], {"bugs": "some"}, "bugs is 'some'")])
def test_bad_input_is_one_clear_sentence(pairs, options, expected):
    with pytest.raises(InputError, match=expected):
        Microscope(small_model(), WORDS, WORDS, pairs, **options)


def test_unknown_words_are_told():
    microscope = Microscope(small_model(), WORDS, WORDS, [("a zebra", "b \0")], checks=0, bugs="none")
    assert microscope.unknown == ["source 1: 'a zebra'", "target 1: 'b \\x00'"]
