"""Search and translation on a GPU's arrays find what they find on the CPU."""

import numpy as np
import pytest
from models.tiny_nmt import batch, by_configuration
from training.tiny_run import VOCAB, model, pairs

from scratchnmt import Translator
from scratchnmt.arrays import to_device
from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import InputError
from scratchnmt.models.nmt import NMT
from scratchnmt.search import Ensemble, beam_search, greedy_search, sample

LINES = [*pairs(12, 3, (1, 9))[0], ""]


def same(found, expected):
    assert [[h.value for h in some] for some in found] == [[h.value for h in some] for some in expected]
    for some, others in zip(found, expected, strict=True):
        np.testing.assert_allclose([h.score for h in some], [h.score for h in others], rtol=1e-12)
        for h, other in zip(some, others, strict=True):
            assert isinstance(h.attention, np.ndarray)
            np.testing.assert_allclose(h.attention, other.attention, rtol=1e-10, atol=1e-14)


@by_configuration
def test_search_finds_the_same_on_both(case):
    src, src_lengths, _ = batch()
    found = []
    for device in ("cpu", "cuda"):
        searched, on_device = case.model(device, seed=2), to_device(src, device)
        found.append(([[h] for h in greedy_search(searched, on_device, src_lengths, max_steps=8)],
                      beam_search(searched, on_device, src_lengths, beam_size=3, n_best=3, max_steps=[3, 8, 1, 5],
                                  length_penalty=0.6),
                      [searched.beam_search(src[: src_lengths[0], 0], beam_size=2, max_decoding_time_step=6)]))
    for expected, other in zip(*found, strict=True):
        same(other, expected)


@pytest.mark.parametrize("constraints", [dict(min_length=4), dict(no_repeat_ngram_size=1),
                                         dict(min_length=3, no_repeat_ngram_size=2)], ids=str)
def test_constraints_forbid_the_same_on_both(constraints):
    src, src_lengths, _ = batch()
    found, options = [], dict(max_steps=[5, 8, 6, 5], **constraints)
    for device in ("cpu", "cuda"):
        searched = model(device=device, seed=2, dtype="float64")
        found.append(beam_search(searched, src, src_lengths, beam_size=3, n_best=3, **options) + [
            [h] for h in sample(searched, src, src_lengths, rng=np.random.default_rng(3), **options)])
    same(found[1], found[0])
    assert [h.value for some in found[0] for h in some] != [
        h.value for some in beam_search(searched, src, src_lengths, beam_size=3, n_best=3, max_steps=[5, 8, 6, 5])
        for h in some]


@pytest.mark.parametrize("beam_size", [1, 5])
def test_translations_are_the_same_on_both(tmp_path, beam_size):
    saved = model(seed=1)
    saved.params.flat[...] *= 20  # so that words differ
    save_model(tmp_path, saved, VOCAB, VOCAB)
    on_cpu, on_device = (Translator.load(tmp_path, device) for device in ("cpu", "cuda:1"))
    options = {"beam_size": beam_size, "n_best": beam_size, "batch_size": 4}
    expected, found = on_cpu.translate(LINES, **options), on_device.translate(LINES, **options)
    assert [[text for text, _ in some] for some in found] == [[text for text, _ in some] for some in expected]
    assert len({some[0][0] for some in found}) > 5
    attended = [t.translate_with_attention(LINES[0], beam_size=beam_size) for t in (on_cpu, on_device)]
    assert attended[0][:3] == attended[1][:3]
    np.testing.assert_allclose(attended[1].attention, attended[0].attention, rtol=1e-5)


def test_a_search_that_runs_out_of_memory_says_what_to_lower(machine):
    translator = Translator(model(device="cuda"), VOCAB, VOCAB)
    machine.most = 200
    message = (r"out of memory \(Out of memory allocating [\d,]+ bytes .*\) in the search of 12 sentences of up "
               r"to \d tokens; lower batch_size, now 64, or beam_size, now 5")
    with pytest.raises(InputError, match=message):
        translator.translate(LINES)


@pytest.mark.parametrize("constraints", [{}, dict(min_length=2, no_repeat_ngram_size=2)], ids=str)
def test_a_step_of_a_search_waits_once_for_the_device(machine, constraints):
    src, src_lengths, _ = batch()
    searched, waits = model(device="cuda"), {}
    for steps in (4, 9):
        machine.waits.clear()
        found = beam_search(searched, src, src_lengths, beam_size=3, max_steps=steps, **constraints)
        assert max(len(h.attention) for some in found for h in some) == steps
        waits[steps] = len(machine.waits)
    assert waits[9] - waits[4] == 5, "\n".join(machine.waits)


@by_configuration
def test_draws_and_scores_are_the_same_on_both(case):
    src, src_lengths, tgt = batch()
    found, log_probs = [], []
    for device in ("cpu", "cuda"):
        drawn, options = case.model(device, seed=2), {"temperature": 1.5, "max_steps": [3, 8, 1, 5]}
        found.append([[h] for k in (0, 2, 1) for h in sample(drawn, src, src_lengths, rng=np.random.default_rng(3),
                                                             top_k=k, **options)])
        log_probs.append(to_device(drawn.token_log_probs(src, src_lengths, tgt), "cpu"))
    same(found[1], found[0])
    np.testing.assert_allclose(log_probs[1], log_probs[0], rtol=1e-10, atol=1e-14)


def test_an_ensemble_is_the_same_on_both(tmp_path):
    for name, seed in ("one", 1), ("two", 2):
        saved = model(seed=seed)
        saved.params.flat[...] *= 20
        save_model(tmp_path / name, saved, VOCAB, VOCAB)
    folders = [tmp_path / "one", tmp_path / "two"]
    on_cpu, on_device = (Translator.load(folders, device) for device in ("cpu", "cuda:1"))
    assert isinstance(on_device.model, Ensemble)
    expected, found = (t.translate(LINES, n_best=5, batch_size=4) for t in (on_cpu, on_device))
    assert [[text for text, _ in some] for some in found] == [[text for text, _ in some] for some in expected]
    first = [next(t.sample(LINES, seed=5, max_length=4)) for t in (on_cpu, on_device)]
    assert first[0][0] == first[1][0] and first[0][1] == pytest.approx(first[1][1], rel=1e-3)
    targets = [*LINES[-2::-1], ""]
    for one, other in zip(on_device.score(LINES, targets), on_cpu.score(LINES, targets), strict=True):
        assert one.tokens == other.tokens and isinstance(one.score, float)
        np.testing.assert_allclose(one.token_scores, other.token_scores, rtol=1e-3, atol=1e-4)


def test_a_step_of_a_draw_waits_once_for_the_device(machine):
    src, src_lengths, _ = batch()
    models, waits = [model(device="cuda", seed=seed) for seed in (0, 1)], {}
    for steps in (4, 9):
        machine.waits.clear()
        found = sample(Ensemble(models), src, src_lengths, rng=np.random.default_rng(2), max_steps=steps)
        assert max(len(h.attention) for h in found) == steps
        waits[steps] = len(machine.waits)
    assert waits[9] - waits[4] == 5, "\n".join(machine.waits)


def test_unknown_words_are_replaced_alike_on_both():
    vocabularies = VOCAB, WordVocabulary(["la", "le"])
    found = []
    for device in ("cpu", "cuda"):
        weights = NMT(len(VOCAB), 6, 10, 8, seed=2, dtype="float64", device=device)
        weights.params.flat[...] *= 20
        found.append(Translator(weights, *vocabularies).translate(LINES, n_best=4, replace_unknown=True))
    assert [[text for text, _ in some] for some in found[1]] == [[text for text, _ in some] for some in found[0]]
    replaced = {word for some in found[0] for text, _ in some for word in text.split()} - {"la", "le"}
    assert len(replaced) > 4 and replaced <= set(" ".join(LINES).split())
